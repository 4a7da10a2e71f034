"""Networks of torchvision with dense outputs on drawn images, for `dense_speed.py`; nothing is augmented.

:deeplab_v3      ResNet-50 of output stride 8 with ASPP
"""

from ml_collections import ConfigDict

MODES = ("deeplab_v3",)


def get_config(mode: str = "deeplab_v3") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 4, 1_000_000
    c.data = dict(name="shapes", annotations="masks", size=128, subset=dict(count=64), resident="yes")
    encoder = dict(model="resnet", depth=50, output_stride=8)
    c.networks = dict(student=dict(source="trained", model="deeplab_v3", encoder=encoder))
    c.terms = dict(task=dict(method="cross_entropy"))
    c.optimizer = dict(name="sgd", momentum=0.9, nesterov=False)
    c.learning_rate = 0.01
    c.evaluate = dict(metrics=())
    c.stages = dict(train=dict())
    return c
