"""CamVid: intra-class feature variation distillation, from a network with a feature pyramid to a smaller one.

    python -m jaxdistill.launch --config configs/camvid/ifvd.py --workdir runs/camvid_ifvd --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/camvid/ifvd.py:smoke --workdir runs/camvid_ifvd_smoke

Wang et al., "Intra-class Feature Variation Distillation for Semantic Segmentation", ECCV 2020.
Data, networks and the budget of 10 epochs are in `configs/segmentation.py`.

Paper:    other networks on larger sets, with hundreds of epochs; numbers are not comparable.
Measured: docs/segmentation.md (python benchmarks/segmentation.py --task camvid).
"""

from jaxdistill.configs.segmentation import camvid
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    return camvid("ifvd", mode)
