"""AG News: MiniLM teaches its probabilities and the states of [CLS] between its layers.

    python -m jaxdistill.launch --config configs/ag_news/patient_kd.py --workdir runs/ag_news_patient_kd
    python -m jaxdistill.launch --config configs/ag_news/patient_kd.py:smoke --workdir runs/ag_news_patient_kd_smoke

Zhang, Zhao, LeCun, "Character-level Convolutional Networks for Text Classification", NeurIPS 2015: titles and
descriptions of news of four topics.
Sun, Cheng, Gan, Liu, "Patient Knowledge Distillation for BERT Model Compression", EMNLP 2019. The distance
is a sum over layers here.
Modes name the student: `layers`, the default, has two layers that start from the teacher's; `narrow` has three layers
and a fourteenth of the teacher's parameters beside embeddings.
The teacher is in `configs/texts.py`.

Measured: not yet.
"""

from jaxdistill.configs.texts import classification
from ml_collections import ConfigDict

MODES = ("", "layers", "narrow", "smoke")
TERMS = dict(
    kd=dict(method="kd", temperature=2.0, weight=0.5),
    patient=dict(method="patient_kd", weight=1.0),
)
DATA = dict(name="ag_news_subset", text="title", pair="description", length=128, buckets=(48, 64, 96, 128), pool=16)


def get_config(mode: str = "") -> ConfigDict:
    return classification(mode or "layers", DATA, TERMS)
