"""MNIST: Hinton's experiment. A large regularised MLP teaches a smaller one that sees the plain images alone.

    python -m jaxdistill.launch --config configs/mnist/kd.py --workdir runs/mnist
    python -m jaxdistill.launch --config configs/mnist/kd.py:smoke --workdir runs/mnist_smoke

Hinton, Vinyals, Dean 2015, section 3: the teacher has two layers of 1,200 ReLUs, dropout, and images jittered by
up to two pixels; the student two of 800, no regularisation but the teacher's soft targets at T = 20.

Paper:    test errors of 10,000: teacher 67, student alone 146, distilled 74.
Measured: test errors of 10,000: teacher 93, student alone 139, distilled 115 (one seed, last epoch, the first command;
          15 minutes on 2 shared cores). Spread over seeds: not measured.
"""

from jaxdistill.configs.stages import CLASSIFICATION, teacher_alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.epochs = 128, 30
    c.data = dict(name="mnist", splits=dict(train="train[:55000]", validation="train[55000:]", test="test"), augment=())
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(1200, 1200), dropout=0.5, weights="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(800, 800)),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=0.1),
        kd=dict(method="kd", temperature=20.0, weight=0.9),
    )
    c.optimizer = dict(name="adam")
    c.learning_rate = dict(name="cosine_decay", init_value=1e-3)
    c.log_every = 100
    c.evaluate = dict(every_epochs=5, metrics=("accuracy", "nll"))
    c.stages = teacher_alone_distil(CLASSIFICATION, data=dict(augment=("pad_crop:2",)), epochs=60)
    if mode == "smoke":
        c.batch, c.epochs, c.steps = 32, 0, 3
        c.stages.teacher.epochs, c.stages.teacher.steps = 0, 3
        c.data.splits = dict(train="train[:128]", validation="train[-64:]", test="test[:64]")
    return c
