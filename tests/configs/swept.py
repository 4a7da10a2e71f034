"""Three students of one teacher in one program: they differ in seed, rate, decay, temperature and weight; `:single`."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 64, 6, 2
    c.data = dict(name="digits", augment=("pad_crop:1",), seed=5)
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(16,), weights="stage:teacher"),
        student=dict(source="trained", model="mlp", widths=(8,), dropout=0.2),
        slow=dict(source="ema", of="student", decay=0.5),
    )
    c.terms = dict(
        task=dict(method="cross_entropy"),
        kd=dict(method="kd", temperature=2.0, weight=dict(to=1.0, over=4)),
    )
    c.optimizer = dict(name="adamw", weight_decay=1e-2)
    c.learning_rate = dict(name="cosine_decay", init_value=1e-2)
    c.evaluate = dict(every=3, metrics=("accuracy",))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")), terms=dict(task=dict(student="teacher"))
        ),
        distil=dict(),
    )
    if mode != "single":
        c.stages.distil.sweep = dict(
            seed=(0, 1, 2),
            learning_rate=dict(init_value=(1e-2, 3e-2, 1e-3)),
            optimizer=dict(weight_decay=(1e-2, 0.1, 0.3)),
            terms=dict(kd=dict(temperature=(2.0, 4.0, 1.0), weight=dict(to=(1.0, 0.5, 2.0)))),
        )
    return c
