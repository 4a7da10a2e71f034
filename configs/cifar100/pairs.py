"""CIFAR-100: the thirteen pairs of the CRD benchmark, by plain KD.

    python -m jaxdistill.launch --config configs/cifar100/pairs.py --workdir runs/pair
    python -m jaxdistill.launch --config configs/cifar100/pairs.py:vgg13-vgg8 --workdir runs/vgg
    python -m jaxdistill.launch --config configs/cifar100/pairs.py:vgg13-vgg8-smoke --workdir runs/smoke
    python -m jaxdistill.launch --config configs/cifar100/pairs.py:smoke --workdir runs/smoke

The mode is a pair, teacher-student, by default the first; with `-smoke` both are as small as their families allow and
train for two steps, on the digits of scikit-learn, so that nothing must be prepared. Schedule and loss are those of
`kd.py`; the first learning rate of MobileNetV2 and of the ShuffleNets is 0.01 instead of 0.05, as in RepDistiller.

Paper:    top-1 after the last epoch (Tian et al., "Contrastive Representation Distillation", ICLR 2020, tables 1 and
          2; students mean of 5 and 3):

              pair                       teacher  alone   KD
              wrn40_2-wrn16_2            75.61    73.26   74.92
              wrn40_2-wrn40_1            75.61    71.98   73.54
              resnet56-resnet20          72.34    69.06   70.66
              resnet110-resnet20         74.31    69.06   70.67
              resnet110-resnet32         74.31    71.14   73.08
              resnet32x4-resnet8x4       79.42    72.50   73.33
              vgg13-vgg8                 74.64    70.36   72.98
              vgg13-MobileNetV2          74.64    64.60   67.37
              ResNet50-MobileNetV2       79.34    64.60   67.35
              ResNet50-vgg8              79.34    70.36   73.81
              resnet32x4-ShuffleNetV1    79.42    70.50   74.07
              resnet32x4-ShuffleNetV2    79.42    71.82   74.45
              wrn40_2-ShuffleNetV1       75.61    70.50   74.83

Measured: nothing yet.
"""

from jaxdistill.configs.cifar100 import kd
from ml_collections import ConfigDict

NETWORKS = {
    "wrn16_2": dict(model="wide_resnet", depth=16, width=2),
    "wrn40_1": dict(model="wide_resnet", depth=40, width=1),
    "wrn40_2": dict(model="wide_resnet", depth=40, width=2),
    "resnet20": dict(model="cifar_resnet", depth=20),
    "resnet32": dict(model="cifar_resnet", depth=32),
    "resnet56": dict(model="cifar_resnet", depth=56),
    "resnet110": dict(model="cifar_resnet", depth=110),
    "resnet8x4": dict(model="cifar_resnet", depth=8, width=4),
    "resnet32x4": dict(model="cifar_resnet", depth=32, width=4),
    "ResNet50": dict(model="resnet", depth=50, form="cifar"),
    "vgg8": dict(model="vgg", depth=8, norm=True, form="cifar"),
    "vgg13": dict(model="vgg", depth=13, norm=True, form="cifar"),
    "MobileNetV2": dict(model="mobilenet_v2", width=0.5, form="cifar"),
    "ShuffleNetV1": dict(model="shufflenet_v1", form="cifar"),
    "ShuffleNetV2": dict(model="shufflenet_v2", form="cifar"),
}
"""Networks by their names in the paper."""

PAIRS = (
    *("wrn40_2-wrn16_2", "wrn40_2-wrn40_1", "resnet56-resnet20", "resnet110-resnet20", "resnet110-resnet32"),
    *("resnet32x4-resnet8x4", "vgg13-vgg8", "vgg13-MobileNetV2", "ResNet50-MobileNetV2", "ResNet50-vgg8"),
    *("resnet32x4-ShuffleNetV1", "resnet32x4-ShuffleNetV2", "wrn40_2-ShuffleNetV1"),
)

SMALL = {
    "wide_resnet": dict(depth=10, width=1),
    "cifar_resnet": dict(depth=8, width=1),
    "resnet": dict(width=4, depths=(1, 1)),
    "vgg": dict(depth=8, channels=(4, 4, 8, 8, 8)),
    "mobilenet_v2": dict(depths=(1, 0, 1, 0, 0, 0, 0)),
    "shufflenet_v1": dict(width=0.25, groups=1, depths=(2,)),
    "shufflenet_v2": dict(channels=(8, 16), depths=(2,)),
}
"""Fields of the smallest network of each model."""

MODES = ("", "smoke", *PAIRS, *(f"{pair}-smoke" for pair in PAIRS))


def get_config(mode: str = "") -> ConfigDict:
    smoke = mode.endswith("smoke")
    pair = mode.removesuffix("smoke").removesuffix("-") or PAIRS[0]
    teacher, student = pair.split("-")
    c = kd.get_config("smoke" if smoke else "")
    c.networks = dict(
        teacher=network(teacher, smoke, source="frozen", weights="stage:teacher"),
        student=network(student, smoke, source="trained"),
    )
    if student in ("MobileNetV2", "ShuffleNetV1", "ShuffleNetV2"):
        c.stages.teacher.learning_rate = c.learning_rate.copy_and_resolve_references()
        c.learning_rate.start = 0.01
    return c


def network(name: str, smoke: bool, **keys: str) -> dict:
    """Returns the entry of a network, by its name in the paper."""
    fields = NETWORKS[name]
    return keys | fields | (SMALL[fields["model"]] if smoke else {})
