"""BCCD: focal and global distillation of the pyramid, from a detector to a smaller one.

    python -m jaxdistill.launch --config configs/bccd/fgd.py --workdir runs/bccd_fgd --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/bccd/fgd.py:smoke --workdir runs/bccd_fgd_smoke

Yang et al., "Focal and Global Knowledge Distillation for Detectors", 2022, with its weights of anchor-free detectors.
Data, networks and the budget of 25 epochs are in `configs/detection.py`.

Paper:    other networks on larger sets, with hundreds of epochs; numbers are not comparable.
Measured: docs/detection.md (python benchmarks/detection.py --task bccd).
"""

from jaxdistill.configs.detection import bccd
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    return bccd("fgd", mode)
