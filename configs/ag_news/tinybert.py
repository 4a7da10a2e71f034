"""AG News: MiniLM teaches embeddings, states and attention first, then its probabilities.

    python -m jaxdistill.launch --config configs/ag_news/tinybert.py --workdir runs/ag_news_tinybert
    python -m jaxdistill.launch --config configs/ag_news/tinybert.py:smoke --workdir runs/ag_news_tinybert_smoke

Zhang, Zhao, LeCun, "Character-level Convolutional Networks for Text Classification", NeurIPS 2015: titles and
descriptions of news of four topics.
Jiao et al., "TinyBERT: Distilling BERT for Natural Language Understanding", Findings of EMNLP 2020, its task-specific
stages, without the augmented data.
Modes name the student: `layers`, the default, has two layers that start from the teacher's; `narrow` has three layers
and a fourteenth of the teacher's parameters beside embeddings.
The teacher is in `configs/texts.py`.

Measured: not yet.
"""

from jaxdistill.configs.texts import classification
from ml_collections import ConfigDict

MODES = ("", "layers", "narrow", "smoke")
TERMS = dict(kd=dict(method="tinybert", stage="prediction", weight=0.5))
DATA = dict(name="ag_news_subset", text="title", pair="description", length=128, buckets=(48, 64, 96, 128), pool=16)


def get_config(mode: str = "") -> ConfigDict:
    c = classification(mode or "layers", DATA, TERMS)
    first = dict(c.stages.distil.networks.student)
    c.stages.intermediate = dict(
        networks=dict(teacher=dict(source="frozen", weights="stage:teacher"), student=first),
        terms=dict(intermediate=dict(method="tinybert", stage="intermediate")),
    )
    c.stages.distil.networks.student = dict(weights="stage:intermediate")
    return c
