"""A student that learns the likelier half of its own texts, until it writes one text alone."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every, c.steps_per_call = 16, 200, 1, 20
    c.data = dict(name="sums")
    c.networks = dict(student=dict(source="trained", model="decoder", layers=1, width=16, heads=2, length=10))
    c.terms = dict(task=dict(method="cross_entropy"))
    c.optimizer = dict(name="adamw", clip=1.0)
    c.learning_rate = 3e-3
    c.evaluate = dict(every=0, metrics=())
    c.stages = dict(
        collapse=dict(on_policy=dict(share=1.0, tokens=4, temperature=0.5, entropy=(1.0, 9.0), alarm="warn"))
    )
    return c
