"""Digits, several students: one teacher's outputs teach four networks of three families in one stage.

    python -m jaxdistill.launch --config configs/digits/students.py --workdir runs/students
    python -m jaxdistill.launch --config configs/digits/students.py:smoke --workdir runs/smoke

The teacher, a residual network, sees every label. The students see the labels of 10 images of each class, and its
outputs for all of them: `small` and `wide` are MLPs, `conv` is a smaller residual network, `patches` a vision
transformer. Each has its method, its optimizer, its learning rate and its best checkpoint by its own accuracy. The
mode `alone` trains the same networks without the teacher.

Paper:    none; the task is ours.
Measured: a step of all four in 1.11 times that of `conv` alone (python benchmarks/students.py); 5 seeds, taught and
          alone (python benchmarks/seeds.py): small 0.883 and 0.840, wide 0.902 and 0.918, conv 0.929 and 0.914,
          patches 0.894 and 0.241 (docs/results/students_*.json).
"""

from ml_collections import ConfigDict

MODES = ("", "alone", "smoke")

ADAMW = dict(name="adamw", weight_decay=1e-4)

STUDENTS = dict(
    small=dict(model="mlp", widths=(32,)),
    wide=dict(model="mlp", widths=(256, 256), learning_rate=dict(name="cosine_decay", init_value=1e-3)),
    conv=dict(
        model="cifar_resnet",
        depth=8,
        optimizer=dict(name="sgd", momentum=0.9, nesterov=True, weight_decay=5e-4),
        learning_rate=dict(name="cosine_decay", init_value=0.05),
    ),
    patches=dict(
        model="vit",
        patch=2,
        layers=2,
        width=32,
        heads=4,
        optimizer=dict(ADAMW, clip=1.0),
        learning_rate=dict(name="warmup_cosine_decay", init_value=0.0, peak_value=2e-3, warmup_steps=50),
    ),
)
"""Networks by name; what they do not set, optimizer or learning rate, is the stage's."""

METHODS = dict(
    small=dict(method="kd", temperature=4.0),
    wide=dict(method="dkd"),
    conv=dict(method="at", weight=100.0),
    patches=dict(method="dist"),
)
"""The term of each student with the teacher."""


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 128, 600
    c.data = dict(name="digits", augment=("pad_crop:1", "rotate:10"), labels_per_class=10)
    c.networks = dict(
        teacher=dict(source="frozen", model="cifar_resnet", depth=20, width=2, weights="stage:teacher"),
        **{name: dict(source="trained", **network) for name, network in STUDENTS.items()},
    )
    c.terms = dict(task=dict(method="cross_entropy", student="teacher"))
    for name in STUDENTS:
        c.terms[f"{name}_task"] = dict(method="cross_entropy", student=name)
        c.terms[f"{name}_teacher"] = dict(student=name, **METHODS[name])
    c.optimizer = ADAMW
    c.learning_rate = dict(name="cosine_decay", init_value=3e-3)
    c.evaluate = dict(every=100, metrics=("accuracy", "nll"))
    kinds = ("task",) if mode == "alone" else ("task", "teacher")
    taught = {f"{name}_{kind}": {} for name in STUDENTS for kind in kinds}
    networks = {name: {} for name in (() if mode == "alone" else ("teacher",))} | {name: {} for name in STUDENTS}
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task={}),
            data=dict(labels_per_class=0),
            steps=200,
        ),
        distil=dict(networks=networks, terms=taught, checkpoint=dict(keep="best", metric="accuracy")),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                teacher={}, **{name: dict(source="frozen", weights=f"stage:distil#{name}") for name in STUDENTS}
            ),
            evaluate=dict(
                split="test",
                networks=("teacher", *STUDENTS),
                metrics=("accuracy", "nll", "ece", "agreement", "kl", "per_class", "confusion"),
            ),
        ),
    )
    if mode == "smoke":
        c.steps = c.stages.teacher.steps = 4
        c.networks.patches.learning_rate.warmup_steps = 2
    return c
