"""CIFAR's residual networks on images of CIFAR's shape, for `residual_step.py` and `scaling.py`.

    :resnet20        ResNet-20 teaches ResNet-8
    :resnet56        ResNet-56 teaches ResNet-20
    :resnet32x4      ResNet-32x4 teaches ResNet-8x4
    :teachers4       four ResNet-20, an ensemble, teach ResNet-8; also 1 and 2

`live` runs the teacher at every step; `cached` reads its outputs, which `cache` has written. The loss and the
optimizer are those of `configs/cifar100/kd.py`. Nothing is augmented: no peer augments on the device, and each is
given the same batches.
"""

from ml_collections import ConfigDict

PAIRS = {"resnet20": ((20, 1), (8, 1)), "resnet56": ((56, 1), (20, 1)), "resnet32x4": ((32, 4), (8, 4))}
TEACHERS = {f"teachers{count}": count for count in (1, 2, 4)}
MODES = (*PAIRS, *TEACHERS)


def get_config(mode: str = "resnet20") -> ConfigDict:
    (depth, width), (student_depth, student_width) = PAIRS.get(mode, PAIRS["resnet20"])
    c = ConfigDict()
    c.batch, c.steps = 64, 1_000_000
    c.data = dict(name="npz", path="", resident="yes")
    c.networks = dict(
        # The scripts give the weights themselves: the same to every peer.
        teacher=dict(source="frozen", model="cifar_resnet", depth=depth, width=width, weights="given"),
        student=dict(source="trained", model="cifar_resnet", depth=student_depth, width=student_width),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=0.1),
        kd=dict(method="kd", temperature=4.0, weight=0.9),
    )
    c.optimizer = dict(name="sgd", momentum=0.9, nesterov=False, weight_decay=5e-4)
    c.learning_rate = 0.01
    c.evaluate = dict(metrics=())
    c.cache = dict(dtype="float32", splits=("train",))
    c.stages = dict(
        live=dict(),
        cache=dict(kind="cache", networks=dict(teacher={})),
        cached=dict(networks=dict(teacher=dict(source="cached", cache="stage:cache"), student={})),
    )
    if mode in TEACHERS:
        members = [f"member{number}" for number in range(TEACHERS[mode])]
        c.networks = dict.fromkeys(members, c.networks.teacher) | dict(
            teacher=dict(source="ensemble", of=tuple(members)), student=c.networks.student
        )
        c.stages = dict(live=dict())
    return c
