"""Networks of torchvision with dense outputs on drawn images, for `dense_speed.py`; nothing is augmented.

:deeplab_v3      ResNet-50 of output stride 8 with ASPP
:fcos            ResNet-50 with a feature pyramid and FCOS's head
"""

from ml_collections import ConfigDict

MODES = ("deeplab_v3", "fcos")


def get_config(mode: str = "deeplab_v3") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 4, 1_000_000
    annotations, stride, task = {
        "deeplab_v3": ("masks", 8, dict(method="cross_entropy")),
        "fcos": ("boxes", 32, dict(method="fcos", normalizer="batch")),
    }[mode]
    c.data = dict(name="shapes", annotations=annotations, size=128, subset=dict(count=64), resident="yes")
    encoder = dict(model="resnet", depth=50, output_stride=stride)
    c.networks = dict(student=dict(source="trained", model=mode, encoder=encoder))
    c.terms = dict(task=task)
    c.optimizer = dict(name="sgd", momentum=0.9, nesterov=False)
    c.learning_rate = 0.01
    c.evaluate = dict(metrics=())
    c.stages = dict(train=dict())
    return c
