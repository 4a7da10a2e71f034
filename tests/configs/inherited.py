"""A narrow student of texts that begins from its teacher, in a few steps."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 16, 4, 2
    c.data = dict(name="headlines")
    tiny = dict(source="trained", model="encoder", vocabulary=65, length=22, heads=2)
    c.networks = dict(teacher=dict(tiny, layers=4, width=16), student=dict(tiny, layers=2, width=8))
    c.terms = dict(task=dict(method="cross_entropy"))
    c.evaluate = dict(every=0, metrics=("accuracy",))
    c.stages = dict(
        teacher=dict(networks=dict(teacher={}), terms=dict(task=dict(student="teacher"))),
        start=dict(
            kind="inherit",
            networks=dict(teacher=dict(source="frozen", weights="stage:teacher"), student={}),
            inherit=dict(match=""),
        ),
        student=dict(networks=dict(student=dict(weights="stage:start")), terms=dict(task={})),
    )
    return c
