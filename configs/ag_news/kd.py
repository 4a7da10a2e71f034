"""AG News: MiniLM teaches a small network its probabilities.

    python -m jaxdistill.launch --config configs/ag_news/kd.py --workdir runs/ag_news_kd
    python -m jaxdistill.launch --config configs/ag_news/kd.py:smoke --workdir runs/ag_news_kd_smoke

Zhang, Zhao, LeCun, "Character-level Convolutional Networks for Text Classification", NeurIPS 2015: titles and
descriptions of news of four topics.
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
DATA = dict(name="ag_news_subset", text="title", pair="description", length=128, buckets=(48, 64, 96, 128), pool=16)


def get_config(mode: str = "") -> ConfigDict:
    return classification(mode or "layers", DATA, TERMS)
