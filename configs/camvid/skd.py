"""CamVid: structured knowledge distillation, from a network with a feature pyramid to a smaller one.

    python -m jaxdistill.launch --config configs/camvid/skd.py --workdir runs/camvid_skd --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/camvid/skd.py:smoke --workdir runs/camvid_skd_smoke

Liu et al., "Structured Knowledge Distillation for Semantic Segmentation", CVPR 2019, without the adversary.
Data, networks and the budget of 10 epochs are in `configs/segmentation.py`.

Paper:    other networks on larger sets, with hundreds of epochs; numbers are not comparable.
Measured: docs/segmentation.md (python benchmarks/segmentation.py --task camvid).
"""

from jaxdistill.configs.segmentation import camvid
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    return camvid("skd", mode)
