"""A student that writes half of its texts, saved after every fourth step, for runs that are killed (kills.py)."""

from ml_collections import ConfigDict

LLAMA = dict(model="decoder", heads=4, positions="rotary", norm="rms", activation="swiglu", bias=False, length=10)


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 32, 24, 1
    c.data = dict(name="sums")
    c.networks = dict(
        teacher=dict(LLAMA, source="frozen", layers=2, width=64, weights="stage:teacher"),
        student=dict(LLAMA, source="trained", layers=2, width=32),
    )
    c.terms = dict(task=dict(method="cross_entropy"), gkd=dict(method="gkd"))
    c.optimizer = dict(name="adamw", clip=1.0)
    c.learning_rate = 0.003
    c.checkpoint = dict(every=4)
    c.evaluate = dict(every=0, metrics=())
    c.stages = dict(
        teacher=dict(
            steps=4,
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(student="teacher")),
        ),
        own=dict(terms=dict(gkd={}), on_policy=dict(share=0.5, tokens=4, stop=(10,), samples=2, staleness=2)),
    )
    return c
