"""Three students of one teacher in one stage, each with its own optimizer; a mode for each alone."""

from ml_collections import ConfigDict

STUDENTS = {
    "small": dict(widths=(8,), optimizer=dict(name="adam", clip=0.5), learning_rate=0.01),
    "wide": dict(
        widths=(16,), optimizer=dict(name="sgd", momentum=0.9), learning_rate=dict(values=(0.1, 0.01), at=(6,))
    ),
    "deep": dict(widths=(8, 8)),
}


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    names = (mode,) if mode else (*STUDENTS,)
    c.batch, c.steps, c.log_every = 64, 12, 2
    c.data = dict(name="digits", augment=("pad_crop:1",))
    c.networks = dict(teacher=dict(source="frozen", model="mlp", widths=(24,), weights="stage:teacher"))
    c.terms = dict(task=dict(method="cross_entropy", student="teacher"))
    for name in names:
        c.networks[name] = dict(source="trained", model="mlp", dropout=0.2, **STUDENTS[name])
        c.terms[f"{name}_task"] = dict(method="cross_entropy", student=name)
        c.terms[f"{name}_hint"] = dict(method="fitnet", layers="hidden1", student=name)
    c.optimizer = dict(name="adam", clip=0.2)
    c.learning_rate = 1e-2
    c.evaluate = dict(every=4, metrics=("accuracy", "nll"))
    taught = {name: {} for name in c.terms if name != "task"}
    evaluated = {name: dict(source="frozen", weights=f"stage:distil#{name}") for name in names}
    c.stages = dict(
        teacher=dict(networks=dict(teacher=dict(source="trained", weights="")), terms=dict(task={})),
        distil=dict(terms=taught, checkpoint=dict(keep="best", every=4)),
        evaluate=dict(
            kind="evaluate",
            networks=dict(teacher={}, **evaluated),
            evaluate=dict(split="test", networks=("teacher", *names), saliency=False),
        ),
    )
    return c
