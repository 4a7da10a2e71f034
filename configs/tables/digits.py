"""Digits as vectors: forest, SVM and network of parts with other classes are merged, and teach one small network.

    python -m jaxdistill.launch --config configs/tables/digits.py --workdir runs/digits_table
    python -m jaxdistill.launch --config configs/tables/digits.py:smoke --workdir runs/smoke

The 1,797 scans come with scikit-learn, here as rows of 64 numbers: 1,078 to train on, 360 to validate on, 359 to test
on. Noise is removed by principal components, 32 dimensions are left. Each member of the teacher has another part of the
data, in which classes are unevenly frequent (Dirichlet partition), and another algorithm; an example's average is
weighted by each member's certainty. The student sees all training examples, and the labels of ten of each class;
`alone` is that student without the teacher.

Paper:    none; the task is ours.
Measured: docs/tables.md (python benchmarks/tables.py --workdir runs/tables).
"""

from jaxdistill.configs.stages import TABLE_CLASSIFICATION, alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")
MEMBERS = ("forest", "svm", "network")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 128, 600
    c.data = dict(name="digits_table", transforms=("scale", "denoise:40", "pca:32"), labels_per_class=10)
    c.networks = dict(
        forest=dict(source="cached", cache="stage:forest"),
        svm=dict(source="cached", cache="stage:svm"),
        network=dict(source="frozen", model="mlp", widths=(256,), weights="stage:network"),
        teacher=dict(source="ensemble", of=MEMBERS, weighting="entropy"),
        student=dict(source="trained", model="mlp", widths=(32,)),
    )
    c.terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd", temperature=2.0))
    c.optimizer = dict(name="adamw", weight_decay=1e-3)
    c.learning_rate = dict(name="cosine_decay", init_value=1e-2)
    c.evaluate = dict(metrics=("accuracy", "nll"))

    def part(number: int) -> dict:
        return dict(labels_per_class=0, partition=dict(of=3, part=number, by="dirichlet", concentration=1.0))

    c.stages = dict(
        forest=dict(kind="sklearn", networks={}, data=part(0), sklearn=dict(name="forest")),
        svm=dict(kind="sklearn", networks={}, data=part(1), sklearn=dict(name="svm")),
        network=dict(
            networks=dict(network=dict(source="trained", weights="")),
            terms=dict(task=dict(student="network")),
            data=part(2),
            steps=300,
        ),
        **alone_distil((*MEMBERS, "teacher"), TABLE_CLASSIFICATION),
    )
    if mode == "smoke":
        c.steps = c.stages.network.steps = 4
    return c
