"""SST-2: MiniLM teaches its probabilities and the states of [CLS] between its layers.

    python -m jaxdistill.launch --config configs/sst2/patient_kd.py --workdir runs/sst2_patient_kd
    python -m jaxdistill.launch --config configs/sst2/patient_kd.py:smoke --workdir runs/sst2_patient_kd_smoke

Socher et al., "Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank", EMNLP 2013:
sentences of film reviews, good or bad.
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
DATA = dict(name="sst2", length=64, buckets=(16, 32, 48, 64), pool=16)


def get_config(mode: str = "") -> ConfigDict:
    return classification(mode or "layers", DATA, TERMS)
