"""CamVid: knowledge distillation of every pixel, from a network with a feature pyramid to a smaller one.

    python -m jaxdistill.launch --config configs/camvid/kd.py --workdir runs/camvid_kd --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/camvid/kd.py:smoke --workdir runs/camvid_kd_smoke

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, for each pixel.
Data, networks and the budget of 10 epochs are in `configs/segmentation.py`.

Paper:    other networks on larger sets, with hundreds of epochs; numbers are not comparable.
Measured: docs/segmentation.md (python benchmarks/segmentation.py --task camvid).
"""

from jaxdistill.configs.segmentation import camvid
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    return camvid("kd", mode)
