"""BCCD: correlation of the pyramid, from a detector to a smaller one.

    python -m jaxdistill.launch --config configs/bccd/pearson.py --workdir runs/bccd_pearson --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/bccd/pearson.py:smoke --workdir runs/bccd_pearson_smoke

Cao et al., "PKD: General Distillation Framework for Object Detectors via Pearson Correlation Coefficient", 2022.
Data, networks and the budget of 25 epochs are in `configs/detection.py`.

Paper:    other networks on larger sets, with hundreds of epochs; numbers are not comparable.
Measured: docs/detection.md (python benchmarks/detection.py --task bccd).
"""

from jaxdistill.configs.detection import bccd
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    return bccd("pearson", mode)
