"""CIFAR-10: ResNet-20 teaches ResNet-8.

    python -m jaxdistill.launch --config configs/cifar10/kd.py --workdir runs/cifar10
    python -m jaxdistill.launch --config configs/cifar10/kd.py:smoke --workdir runs/cifar10_smoke

Schedule: batch 128, SGD with Nesterov momentum, 200 epochs, the rate falling from 0.1 along a cosine; images
padded by 4 and cropped, flipped; 45,000 images to train on and 5,000 to validate on, as He et al. (2016).

Paper:    ResNet-20 alone 91.25 % (He et al., table 6; 200 epochs, rate cut twice). No paper has ResNet-8 here.
Measured: not the full schedule, but what 21 minutes on 2 cores hold, one seed, last epoch, on the JPEG-recoded
          images of a prepared copy: teacher 72.9 after 3 epochs, alone 68.0 and distilled 69.5 after 4
          (--config.epochs=4 --config.stages.teacher.epochs=3).
"""

from jaxdistill.configs.stages import CLASSIFICATION, teacher_alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.epochs = 128, 200
    c.data = dict(
        name="cifar10",
        splits=dict(train="train[:45000]", validation="train[45000:]", test="test"),
        augment=("pad_crop:4", "flip"),
    )
    c.networks = dict(
        teacher=dict(source="frozen", model="cifar_resnet", depth=20, weights="stage:teacher"),
        student=dict(source="trained", model="cifar_resnet", depth=8),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=0.1),
        kd=dict(method="kd", temperature=4.0, weight=0.9),
    )
    c.optimizer = dict(name="sgd", momentum=0.9, nesterov=True, weight_decay=5e-4)
    c.learning_rate = dict(name="cosine_decay", init_value=0.1)
    c.evaluate = dict(every_epochs=1, metrics=("accuracy", "nll"))
    c.stages = teacher_alone_distil(CLASSIFICATION)
    if mode == "smoke":
        c.batch, c.epochs, c.steps = 32, 0, 2
        c.evaluate.every_epochs = 0
        c.data.splits = dict(train="train[:64]", validation="train[-64:]", test="test[:64]")
    return c
