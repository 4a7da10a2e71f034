"""Two students that differ in seed teach an exit of their own, and are evaluated beside the teacher that they share."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 64, 4, 2
    c.data = dict(name="digits")
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(16,), weights="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(8,)),
        early=dict(source="head", of="student", tap="hidden1"),
    )
    c.terms = dict(
        task=dict(method="cross_entropy"),
        kd=dict(method="kd"),
        exit=dict(method="kd", student="early", teacher="student"),
    )
    c.evaluate = dict(every=4, networks=("student", "early"), metrics=("accuracy",))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(student="teacher")),
            evaluate=dict(networks=("teacher",)),
        ),
        distil=dict(sweep=dict(seed=(0, 1))),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                student=dict(weights="stage:distil#student"), early=dict(weights="stage:distil#early"), teacher={}
            ),
            evaluate=dict(split="validation", networks=("student", "early", "teacher"), saliency=False),
        ),
    )
    return c
