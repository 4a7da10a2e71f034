"""Digits, few labels: a residual network that has seen every label teaches a small MLP that sees 10 of each class.

    python -m jaxdistill.launch --config configs/digits/kd.py --workdir runs/digits
    python -m jaxdistill.launch --config configs/digits/kd.py:smoke --workdir runs/smoke

The 1,797 scans come with scikit-learn: 1,077 to train on, 360 to validate on, 360 to test on. The teacher learns
from every label. The student, a sixteenth of its size, sees all training images but the labels of ten of each
class alone; `alone` is that student without the teacher, `distilled` with it, `finetuned` is `distilled` after a
few more steps on the labels, from the checkpoint with the best validation
accuracy.

Paper:    none; the task is ours.
Measured: accuracy over 5 seeds, last step (finetuned: best on validation): teacher 98.4 ± 0.6, alone 89.6 ± 0.9,
          distilled 94.9 ± 1.0, finetuned 94.7 ± 0.8
          (python benchmarks/seeds.py --config configs/digits/kd.py --seeds 5 --workdir runs/seeds).
"""

from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 128, 1500
    c.data = dict(name="digits", augment=("pad_crop:1", "rotate:10"), labels_per_class=10)
    c.networks = dict(
        teacher=dict(source="frozen", model="cifar_resnet", depth=8, width=1, weights="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(64,)),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=1.0),
        kd=dict(method="kd", temperature=4.0, weight=1.0),
    )
    c.optimizer = dict(name="adamw", weight_decay=1e-4)
    c.learning_rate = dict(name="cosine_decay", init_value=3e-3)
    c.evaluate = dict(every=100, metrics=("accuracy", "nll"))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(student="teacher")),
            data=dict(labels_per_class=0),
            steps=400,
        ),
        alone=dict(networks=dict(student={}), terms=dict(task={})),
        distil=dict(),
        finetune=dict(
            networks=dict(student=dict(weights="stage:distil")),
            terms=dict(task={}),
            steps=200,
            learning_rate=1e-4,
            evaluate=dict(every=25),
            checkpoint=dict(keep="best"),
        ),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                teacher={},
                alone=dict(like="student", source="frozen", weights="stage:alone"),
                distilled=dict(like="student", source="frozen", weights="stage:distil"),
                finetuned=dict(like="student", source="frozen", weights="stage:finetune"),
            ),
            evaluate=dict(
                split="test",
                networks=("teacher", "alone", "distilled", "finetuned"),
                pairs=("distilled:alone", "finetuned:distilled"),
                metrics=(
                    "accuracy",
                    "precision",
                    "recall",
                    "f1",
                    "nll",
                    "ece",
                    "agreement",
                    "kl",
                    "copied_errors",
                    "cka",
                    "per_class",
                    "confusion",
                    "reliability",
                ),
            ),
        ),
    )
    if mode == "smoke":
        c.steps = c.stages.teacher.steps = c.stages.finetune.steps = 4
    return c
