"""Diabetes, few targets: three networks with Gaussian heads teach one small network by the KL of their mixture.

    python -m jaxdistill.launch --config configs/tables/diabetes.py --workdir runs/diabetes
    python -m jaxdistill.launch --config configs/tables/diabetes.py:quantiles --workdir runs/quantiles
    python -m jaxdistill.launch --config configs/tables/diabetes.py:smoke --workdir runs/smoke

The 442 patients of 10 measurements come with scikit-learn: 265 to train on, 89 to validate on, 88 to test on. The
target is the progression of the disease after a year. The teacher is the ensemble of three networks that see every
target. The student sees all training examples and 40 targets; `alone` is that student without the teacher. With
`quantiles` all networks predict nine quantiles instead of a mean and a variance.

Paper:    none; the task is ours.
Measured: docs/tables.md (python benchmarks/tables.py --workdir runs/tables).
"""

from jaxdistill.configs.stages import alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke", "quantiles", "quantiles-smoke")
MEMBERS = ("first", "second", "third")


def get_config(mode: str = "") -> ConfigDict:
    c, quantiles = ConfigDict(), mode.startswith("quantiles")
    c.batch, c.steps = 64, 300
    c.task = "quantile_regression" if quantiles else "regression"
    c.data = dict(name="diabetes", transforms=("impute:median", "clip:0.01", "standardize"), labels_per_class=40)
    member = dict(source="frozen", model="mlp", widths=(32,), dropout=0.2)
    average = "logits" if quantiles else "gaussian"
    c.networks = dict(
        {name: dict(member, weights=f"stage:teacher#{name}") for name in MEMBERS},
        teacher=dict(source="ensemble", of=MEMBERS, average=average),
        student=dict(source="trained", model="mlp", widths=(8,)),
    )
    supervised = "quantile_regression" if quantiles else "gaussian_likelihood"
    c.terms = dict(
        task=dict(method=supervised),
        kd=dict(method="quantile_distillation" if quantiles else "gaussian_kl"),
    )
    c.optimizer = dict(name="adamw", weight_decay=1e-2)
    c.learning_rate = dict(name="cosine_decay", init_value=1e-2)
    c.evaluate = dict(metrics=("rmse",))
    metrics = ("rmse", "mae", "pinball") if quantiles else ("rmse", "mae", "gaussian_nll", "gaussian_kl")
    c.stages = dict(
        teacher=dict(
            networks={name: dict(source="trained", weights="") for name in MEMBERS},
            terms={f"task_of_{name}": dict(method=supervised, student=name) for name in MEMBERS},
            data=dict(labels_per_class=0),
            steps=150,
        ),
        **alone_distil((*MEMBERS, "teacher"), metrics, measured=("teacher",)),
    )
    if mode.endswith("smoke"):
        c.steps = c.stages.teacher.steps = 4
    return c
