"""BCCD: localisation distillation beside that of the scores, from a detector to a smaller one.

    python -m jaxdistill.launch --config configs/bccd/ld.py --workdir runs/bccd_ld --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/bccd/ld.py:smoke --workdir runs/bccd_ld_smoke

Zheng et al., "Localization Distillation for Dense Object Detection", 2022: the distributions of the four distances.
Data, networks and the budget of 25 epochs are in `configs/detection.py`.

Paper:    other networks on larger sets, with hundreds of epochs; numbers are not comparable.
Measured: docs/detection.md (python benchmarks/detection.py --task bccd).
"""

from jaxdistill.configs.detection import bccd
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    return bccd("ld", mode)
