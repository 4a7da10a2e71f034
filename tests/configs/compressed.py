"""A pruned student in a few steps: a teacher, a stage that fits views, training under them, and evaluation.

The mode "small" removes units and factors kernels, so that arrays are stored in other shapes than the model declares.
"""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 64, 8, 4
    c.data = dict(name="digits")
    views = dict(prune=dict(view="sparse", sparsity=0.75, over=4))
    if mode == "small":
        half = dict(view="structure", keep=0.5, importance="taylor")
        views |= dict(half=half, low=dict(view="low_rank", rank=4))
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(16,), weights="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(16,), weights="stage:fit", compress=views),
    )
    c.terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd", temperature=2.0))
    c.learning_rate = 0.01
    c.evaluate = dict(every=0, metrics=("accuracy",))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")), terms=dict(task=dict(student="teacher"))
        ),
        fit=dict(
            kind="compress",
            networks=dict(teacher={}, student=dict(weights="")),
            compress=dict(network="teacher", into="student", batches=2),
        ),
        distil=dict(),
        evaluate=dict(
            kind="evaluate",
            networks=dict(teacher={}, student=dict(source="frozen", weights="stage:distil")),
            evaluate=dict(split="test", metrics=("accuracy",)),
        ),
    )
    return c
