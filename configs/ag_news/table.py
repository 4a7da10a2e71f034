"""AG News: one teacher and all students of `configs/texts.py` in one pipeline, alone and by each method.

    python -m jaxdistill.launch --config configs/ag_news/table.py --workdir runs/ag_news_table
    python -m jaxdistill.launch --config configs/ag_news/table.py:smoke --workdir runs/ag_news_table_smoke

`benchmarks/texts.py` runs it with several seeds. The mode `scratch` leaves out the student that starts from the
teacher's layers, and `features` has one student by methods of features; `scratch@RUN` takes the teacher of another run.
The teacher's logits are cached for `kd`; methods of features run it.

Measured: docs/texts.md (python benchmarks/texts.py).
"""

from jaxdistill.configs.texts import comparison
from ml_collections import ConfigDict

MODES = ("", "scratch", "features", "smoke")
DATA = dict(name="ag_news_subset", text="title", pair="description", length=128, buckets=(48, 64, 96, 128), pool=16)


def get_config(mode: str = "") -> ConfigDict:
    return comparison(DATA, mode)
