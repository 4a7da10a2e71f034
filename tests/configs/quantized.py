"""Quantized students in a few steps: after training, by training, and distilled from their own full-precision self.

`rounded` has weights and inputs of 4 bits with learned scales, those of the inputs from calibration data; `coded` and
`signed` begin at the teacher's weights, as `rounded` does. All three learn from the teacher.
"""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 64, 12, 4
    c.data = dict(name="digits")
    learned = dict(view="quantize", bits=4, range="learned", activations=4, activation_range="learned")
    prune = dict(view="sparse", sparsity=0.5)
    model = dict(model="mlp", widths=(16,), weights="stage:teacher")
    student = dict(model, source="trained")
    c.networks = dict(
        teacher=dict(model, source="frozen"),
        rounded=dict(student, weights="stage:fit", compress=dict(prune=prune, round=dict(learned, start=3))),
        coded=dict(student, compress=dict(code=dict(view="codebook", size=4, every=5, iterations=2))),
        signed=dict(student, compress=dict(sign=dict(view="binary"))),
    )
    c.terms = {
        f"{name}_kd": dict(method="kd", student=name, temperature=2.0) for name in ("rounded", "coded", "signed")
    }
    c.optimizer = dict(name="adam")
    c.learning_rate = 0.005
    c.evaluate = dict(every=0, metrics=("accuracy",))
    measured = {name: dict(source="frozen", weights="stage:distil") for name in ("rounded", "coded", "signed")}
    after = dict(like="teacher", compress=dict(round=dict(view="quantize", bits=4, activations=8)))
    c.stages = dict(
        teacher=dict(
            steps=40,
            learning_rate=0.02,
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(method="cross_entropy", student="teacher")),
        ),
        fit=dict(
            kind="compress",
            networks=dict(teacher={}, rounded=dict(weights="")),
            compress=dict(network="teacher", into="rounded", batches=2),
        ),
        distil=dict(
            networks=dict(teacher={}, rounded={}, coded={}, signed={}),
            optimizer=dict(groups=dict(scales=dict(pattern="compress/", learning_rate_factor=0.1))),
        ),
        evaluate=dict(
            kind="evaluate",
            networks=dict(teacher={}, after=after, **measured),
            evaluate=dict(split="test", metrics=("accuracy",)),
        ),
    )
    return c
