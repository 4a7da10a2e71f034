"""SST-2: MiniLM teaches the attention and the value relations of its last layer, and its probabilities.

    python -m jaxdistill.launch --config configs/sst2/minilm.py --workdir runs/sst2_minilm
    python -m jaxdistill.launch --config configs/sst2/minilm.py:smoke --workdir runs/sst2_minilm_smoke

Socher et al., "Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank", EMNLP 2013:
sentences of film reviews, good or bad.
Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
NeurIPS 2020; here on the texts of the task, beside its labels.
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
    attention=dict(method="minilm", weight=1.0),
)
DATA = dict(name="sst2", length=64, buckets=(16, 32, 48, 64), pool=16)


def get_config(mode: str = "") -> ConfigDict:
    return classification(mode or "layers", DATA, TERMS)
