"""Rings: a teacher of the lab's own model teaches a narrower one by the lab's own method.

python -m jaxdistill.launch --config configs/kd.py --workdir runs/own
python -m jaxdistill.launch --config configs/kd.py:smoke --workdir runs/own_smoke
"""

from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 64, 200
    c.task = "my_lab.tasks:Legible"
    c.data = dict(name="my_lab.data:rings", labels_per_class=20)
    c.networks = dict(
        teacher=dict(source="frozen", model="my_lab.models:TwoLayer", width=24, weights="stage:teacher"),
        sharp=dict(source="my_lab.networks:Sharpened", of="teacher", temperature=0.5),
        student=dict(
            source="trained",
            model="my_lab.models:TwoLayer",
            width=8,
            compress=dict(bounded=dict(view="my_lab.views:Bounded", bound=0.5)),
        ),
    )
    c.terms = dict(
        task=dict(method="cross_entropy"),
        margin=dict(method="my_lab.losses:Margin", teacher="sharp", scale=0.5),
        kd=dict(method="kd", teacher="sharp", temperature=2.0),
    )
    c.optimizer = dict(name="adam")
    c.learning_rate = 3e-3
    c.evaluate = dict(every=50, metrics=("accuracy", "my_lab.metrics:Top3"))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(student="teacher")),
            data=dict(labels_per_class=0),
        ),
        distil={},
        count=dict(
            kind="my_lab.stages:CountParameters",
            networks=dict(teacher={}, student=dict(source="frozen", weights="stage:distil")),
        ),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                teacher={}, sharp={}, distilled=dict(like="student", source="frozen", weights="stage:distil")
            ),
            evaluate=dict(split="test", metrics=("accuracy", "nll", "agreement", "my_lab.metrics:Top3")),
        ),
    )
    if mode == "smoke":
        c.steps = 4
    return c
