"""SST-2: one teacher and all students of `configs/texts.py` in one pipeline, alone and by each method.

    python -m jaxdistill.launch --config configs/sst2/table.py --workdir runs/sst2_table
    python -m jaxdistill.launch --config configs/sst2/table.py:smoke --workdir runs/sst2_table_smoke

`benchmarks/texts.py` runs it with several seeds. The mode `scratch` leaves out the student that starts from the
teacher's layers, and `features` has one student by methods of features; `scratch@RUN` takes the teacher of another run.
The teacher's logits are cached for `kd`; methods of features run it.

Measured: docs/texts.md (python benchmarks/texts.py).
"""

from jaxdistill.configs.texts import comparison
from ml_collections import ConfigDict

MODES = ("", "scratch", "features", "smoke")
DATA = dict(name="sst2", length=64, buckets=(16, 32, 48, 64), pool=16)


def get_config(mode: str = "") -> ConfigDict:
    return comparison(DATA, mode)
