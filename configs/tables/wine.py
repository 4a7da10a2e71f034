"""Wine: a random forest teaches a network of four units, from three labels of each class.

    python -m jaxdistill.launch --config configs/tables/wine.py --workdir runs/wine
    python -m jaxdistill.launch --config configs/tables/wine.py:smoke --workdir runs/smoke

The 178 wines of 13 measurements come with scikit-learn: 107 to train on, 35 to validate on, 36 to test on. The teacher
is a forest that sees every label. The student sees all training examples, and the labels of three of each class;
`alone` is that student without the teacher. Both read five principal components of the standardised features.

Paper:    none; the task is ours.
Measured: docs/tables.md (python benchmarks/tables.py --workdir runs/tables).
"""

from jaxdistill.configs.stages import TABLE_CLASSIFICATION, alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 32, 400
    c.data = dict(name="wine", transforms=("standardize", "pca:5"), labels_per_class=3)
    c.networks = dict(
        teacher=dict(source="cached", cache="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(4,)),
    )
    c.terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd", temperature=2.0))
    c.optimizer = dict(name="adamw", weight_decay=1e-3)
    c.learning_rate = dict(name="cosine_decay", init_value=1e-2)
    c.evaluate = dict(metrics=("accuracy", "nll"))
    c.stages = dict(
        teacher=dict(kind="sklearn", networks={}, data=dict(labels_per_class=0), sklearn=dict(name="forest")),
        **alone_distil(("teacher",), TABLE_CLASSIFICATION),
    )
    if mode == "smoke":
        c.steps = 4
    return c
