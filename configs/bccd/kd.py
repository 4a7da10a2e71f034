"""BCCD: knowledge distillation of the scores of every location, from a detector to a smaller one.

    python -m jaxdistill.launch --config configs/bccd/kd.py --workdir runs/bccd_kd --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/bccd/kd.py:smoke --workdir runs/bccd_kd_smoke

Yang et al., "Multi-Label Knowledge Distillation", 2023, its logit term: the scores of a detector are binary decisions.
Data, networks and the budget of 25 epochs are in `configs/detection.py`.

Paper:    other networks on larger sets, with hundreds of epochs; numbers are not comparable.
Measured: docs/detection.md (python benchmarks/detection.py --task bccd).
"""

from jaxdistill.configs.detection import bccd
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    return bccd("kd", mode)
