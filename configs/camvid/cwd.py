"""CamVid: channel-wise distillation of the logits, from a network with a feature pyramid to a smaller one.

    python -m jaxdistill.launch --config configs/camvid/cwd.py --workdir runs/camvid_cwd --config.data.data_dir=DIR
    python -m jaxdistill.launch --config configs/camvid/cwd.py:smoke --workdir runs/camvid_cwd_smoke

Shu et al., "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021; weight 3 and T = 4, the paper's.
Data, networks and the budget of 10 epochs are in `configs/segmentation.py`.

Paper:    other networks on larger sets, with hundreds of epochs; numbers are not comparable.
Measured: docs/segmentation.md (python benchmarks/segmentation.py --task camvid).
"""

from jaxdistill.configs.segmentation import camvid
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    return camvid("cwd", mode)
