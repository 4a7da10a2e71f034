"""One stage that trains a small network alone; `:lanes` two of them."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 64, 12, 2
    c.data = dict(name="digits", augment=("pad_crop:1",))
    c.networks = dict(student=dict(source="trained", model="mlp", widths=(8,)))
    c.terms = dict(task=dict(method="cross_entropy"))
    c.learning_rate = dict(name="cosine_decay", init_value=1e-2)
    c.evaluate = dict(every=4, metrics=("accuracy",))
    if mode == "lanes":
        c.sweep = dict(seed=(0, 1))
    return c
