"""Across datasets: a student of MNIST's digits is taught on the 8 x 8 scans, and a student of the scans on MNIST.

    python -m jaxdistill.launch --config configs/mnist/cross.py --workdir runs/cross
    python -m jaxdistill.launch --config configs/mnist/cross.py:smoke --workdir runs/smoke

Here the teacher learns from 5,000 labelled images of MNIST, at 14 x 14 pixels. `same` learns from it alone on these
images, without a label; `other` on the digits that scikit-learn carries (1,077 images, at 14 x 14 pixels), without one
either. Both are measured on MNIST's test split. The other direction is
`configs/digits/modes.py:mnist`.

Paper:    none; the task is ours.
Measured: docs/modes.md (python benchmarks/modes.py --workdir runs/modes --data_dir DIR --write docs/modes.md).
"""

from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 128, 1000
    c.data = dict(name="mnist", size=14, augment=("pad_crop:1", "rotate:10"), subset=dict(count=5000))
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(512, 512), weights="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(64,)),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=1.0),
        kd=dict(method="kd", temperature=4.0, weight=1.0),
    )
    c.optimizer = dict(name="adamw", weight_decay=1e-4)
    c.learning_rate = dict(name="cosine_decay", init_value=3e-3)
    c.evaluate = dict(metrics=())
    free = dict(networks=dict(teacher={}, student={}), terms=dict(kd={}))
    digits = dict(digits=dict(name="digits", size=14))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(student="teacher")),
        ),
        same=free | dict(data=dict(unlabelled=True)),
        other=free | dict(data=dict(unlabelled=True, weight=0.0, mix=digits, subset=dict(count=0))),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                teacher={},
                same=dict(like="student", source="frozen", weights="stage:same"),
                other=dict(like="student", source="frozen", weights="stage:other"),
            ),
            evaluate=dict(
                split="test",
                networks=("teacher", "same", "other"),
                metrics=("accuracy", "nll", "ece", "agreement", "kl", "copied_errors"),
            ),
        ),
    )
    if mode == "smoke":
        c.steps, c.data.subset = 4, dict(count=100)
    return c
