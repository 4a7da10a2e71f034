"""BCCD: crossed heads, from a detector to a smaller one.

    python -m jaxdistill.launch --config configs/bccd/crosskd.py --workdir runs/bccd_crosskd --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/bccd/crosskd.py:smoke --workdir runs/bccd_crosskd_smoke

Wang et al., "CrossKD: Cross-Head Knowledge Distillation for Object Detection", 2024.
Data, networks and the budget of 25 epochs are in `configs/detection.py`.

Paper:    other networks on larger sets, with hundreds of epochs; numbers are not comparable.
Measured: docs/detection.md (python benchmarks/detection.py --task bccd).
"""

from jaxdistill.configs.detection import bccd
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    return bccd("crosskd", mode)
