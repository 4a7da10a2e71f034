"""SST-2: MiniLM teaches a small network its probabilities.

    python -m jaxdistill.launch --config configs/sst2/kd.py --workdir runs/sst2_kd
    python -m jaxdistill.launch --config configs/sst2/kd.py:smoke --workdir runs/sst2_kd_smoke

Socher et al., "Recursive Deep Models for Semantic Compositionality Over a Sentiment Treebank", EMNLP 2013:
sentences of film reviews, good or bad.
Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015; Turc et al., "Well-Read Students Learn
Better", 2019, for BERT.
Modes name the student: `layers`, the default, has two layers that start from the teacher's; `narrow` has three layers
and a fourteenth of the teacher's parameters beside embeddings; `bilstm` and `bag` are no transformers.
The teacher is in `configs/texts.py`.

Measured: docs/texts.md (python benchmarks/texts.py).
"""

from jaxdistill.configs.texts import STUDENTS, classification
from ml_collections import ConfigDict

MODES = ("", *STUDENTS, "smoke")
TERMS = dict(kd=dict(method="kd", temperature=2.0, weight=0.5))
DATA = dict(name="sst2", length=64, buckets=(16, 32, 48, 64), pool=16)


def get_config(mode: str = "") -> ConfigDict:
    return classification(mode or "layers", DATA, TERMS)
