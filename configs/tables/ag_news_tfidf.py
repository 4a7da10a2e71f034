"""AG News as sparse features, few labels: a linear model and a network, each of half of the texts, teach a network.

    python -m jaxdistill.launch --config configs/tables/ag_news_tfidf.py --workdir runs/tfidf --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/tables/ag_news_tfidf.py:smoke --workdir runs/smoke \\
        --config.data.data_dir=DIR

DIR is the folder in which TensorFlow Datasets has prepared `ag_news_subset`. Titles and descriptions of news in four
classes become the TF-IDF of their 5,000 most frequent words, sparse until the batch. The teacher is the average of a
logistic regression and a network. The student sees all training texts, and the labels of 25 of each class; `alone` is
that student without the teacher.

Paper:    none; the data are those of Zhang, Zhao, LeCun, "Character-level Convolutional Networks for Text
          Classification", NIPS 2015, https://arxiv.org/abs/1509.01626.
Measured: docs/tables.md (python benchmarks/tables.py --workdir runs/tables).
"""

from jaxdistill.configs.stages import TABLE_CLASSIFICATION, alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")
MEMBERS = ("logistic", "network")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 256, 300
    c.data = dict(
        name="ag_news_subset",
        columns=("title", "description"),
        label="label",
        transforms=("tfidf:5000",),
        labels_per_class=25,
    )
    c.networks = dict(
        logistic=dict(source="cached", cache="stage:logistic"),
        network=dict(source="frozen", model="mlp", widths=(128,), dropout=0.5, weights="stage:network"),
        teacher=dict(source="ensemble", of=MEMBERS),
        student=dict(source="trained", model="mlp", widths=(8,)),
    )
    c.terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd", temperature=2.0))
    c.optimizer = dict(name="adamw", weight_decay=1e-3)
    c.learning_rate = dict(name="cosine_decay", init_value=1e-2)
    c.evaluate = dict(metrics=("accuracy", "nll"))

    def half(part: int) -> dict:
        return dict(labels_per_class=0, partition=dict(of=2, part=part))

    c.stages = dict(
        logistic=dict(
            kind="sklearn",
            networks={},
            data=half(0),
            sklearn=dict(name="logistic", settings=dict(C=10.0, max_iter=300)),
        ),
        network=dict(
            networks=dict(network=dict(source="trained", weights="")),
            terms=dict(task=dict(student="network")),
            data=half(1),
            steps=100,
        ),
        **alone_distil((*MEMBERS, "teacher"), TABLE_CLASSIFICATION),
    )
    if mode == "smoke":
        c.batch, c.steps, c.stages.network.steps = 32, 4, 4
    return c
