"""CIFAR-100: ResNet-32x4 teaches ResNet-8x4, the schedule of the CRD benchmark.

    python -m jaxdistill.launch --config configs/cifar100/kd.py --workdir runs/cifar100
    python -m jaxdistill.launch --config configs/cifar100/kd.py:smoke --workdir runs/cifar100_smoke

Schedule (Tian et al., "Contrastive Representation Distillation", ICLR 2020, and RepDistiller): batch 64, SGD with
momentum 0.9 and weight decay 5e-4, 240 epochs at 0.05, a tenth of it from epoch 150, 180 and 210; the loss is
0.1 cross-entropy + 0.9 KD at T = 4. Accuracy on the test split after the last epoch. The mode `smoke` trains for two
steps on the digits of scikit-learn, in the size of CIFAR's images, so that nothing must be prepared.

Paper:    teacher 79.42, student alone 72.50, KD 73.33 top-1 (table 1 of the paper, mean of 5).
Measured: nothing yet.
"""

from jaxdistill.configs.stages import CLASSIFICATION, teacher_alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.epochs = 64, 240
    c.data = dict(
        name="cifar100", splits=dict(train="train", validation="", test="test"), augment=("pad_crop:4", "flip")
    )
    c.networks = dict(
        teacher=dict(source="frozen", model="cifar_resnet", depth=32, width=4, weights="stage:teacher"),
        student=dict(source="trained", model="cifar_resnet", depth=8, width=4),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=0.1),
        kd=dict(method="kd", temperature=4.0, weight=0.9),
    )
    c.optimizer = dict(name="sgd", momentum=0.9, nesterov=False, weight_decay=5e-4)
    c.learning_rate = dict(start=0.05, times=0.1, at_epochs=(150, 180, 210))
    c.log_every = 100
    c.evaluate = dict(every_epochs=10, split="test", metrics=("accuracy", "top5", "nll"))
    c.stages = teacher_alone_distil(("accuracy", "top5", *CLASSIFICATION[1:]))
    if mode == "smoke":
        c.batch, c.epochs, c.steps = 8, 0, 2
        c.evaluate.every_epochs = 0
        c.networks.teacher.depth = 8
        c.data = dict(name="digits", size=32, channels=3, augment=("pad_crop:4", "flip"))
    return c
