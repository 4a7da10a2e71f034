"""Breast cancer: a forest, an SVM and a network, each of another third of the data, teach one small network as one.

    python -m jaxdistill.launch --config configs/tables/breast_cancer.py --workdir runs/breast_cancer
    python -m jaxdistill.launch --config configs/tables/breast_cancer.py:smoke --workdir runs/smoke

The 569 tumours of 30 measurements come with scikit-learn: 341 to train on, 114 to validate on, 114 to test on. Outliers
are clipped, and features standardised. The teacher is the average of its three members' probabilities. The student sees
all training examples, and the labels of five of each class; `alone` is that student without the teacher.

Paper:    none; the task is ours.
Measured: docs/tables.md (python benchmarks/tables.py --workdir runs/tables).
"""

from jaxdistill.configs.stages import TABLE_CLASSIFICATION, alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")
MEMBERS = ("forest", "svm", "network")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 64, 400
    c.data = dict(name="breast_cancer", transforms=("impute:median", "clip:0.01", "standardize"), labels_per_class=5)
    c.networks = dict(
        forest=dict(source="cached", cache="stage:forest"),
        svm=dict(source="cached", cache="stage:svm"),
        network=dict(source="frozen", model="mlp", widths=(64, 64), weights="stage:network"),
        teacher=dict(source="ensemble", of=MEMBERS),
        student=dict(source="trained", model="mlp", widths=(8,)),
    )
    c.terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd", temperature=2.0))
    c.optimizer = dict(name="adamw", weight_decay=1e-3)
    c.learning_rate = dict(name="cosine_decay", init_value=1e-2)
    c.evaluate = dict(metrics=("accuracy", "nll"))

    def third(part: int) -> dict:
        return dict(labels_per_class=0, partition=dict(of=3, part=part))

    c.stages = dict(
        forest=dict(kind="sklearn", networks={}, data=third(0), sklearn=dict(name="forest")),
        svm=dict(kind="sklearn", networks={}, data=third(1), sklearn=dict(name="svm")),
        network=dict(
            networks=dict(network=dict(source="trained", weights="")),
            terms=dict(task=dict(student="network")),
            data=third(2),
            steps=200,
        ),
        **alone_distil((*MEMBERS, "teacher"), TABLE_CLASSIFICATION),
    )
    if mode == "smoke":
        c.steps = c.stages.network.steps = 4
    return c
