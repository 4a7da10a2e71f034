"""A student that writes its own answers, which a teacher grades; and one that learns what the teacher writes."""

from ml_collections import ConfigDict

LLAMA = dict(model="decoder", heads=2, positions="rotary", norm="rms", activation="swiglu", bias=False, length=10)


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 16, 12, 4
    c.data = dict(name="sums")
    c.networks = dict(
        teacher=dict(LLAMA, source="frozen", layers=1, width=16, weights="stage:teacher"),
        student=dict(LLAMA, source="trained", layers=1, width=8),
    )
    c.terms = dict(task=dict(method="cross_entropy"), reverse=dict(method="reverse_kl", temperature=1.0, chunk=50))
    c.optimizer = dict(name="sgd", momentum=0.9, clip=1.0)
    c.learning_rate = 0.3
    c.checkpoint = dict(every=4, max_to_keep=9)
    c.evaluate = dict(every=0, metrics=("exact_match", "nll"))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")), terms=dict(task=dict(student="teacher"))
        ),
        own=dict(terms=dict(reverse={}), on_policy=dict(share=0.5, tokens=4, stop=(10,), samples=2)),
        teachers=dict(
            terms=dict(task={}), on_policy=dict(share=1.0, tokens=4, stop=(10,), writer="teacher", temperature=0.0)
        ),
        evaluate=dict(
            kind="evaluate",
            networks=dict(teacher={}, student=dict(source="frozen", weights="stage:own")),
            evaluate=dict(split="test", metrics=("exact_match", "nll")),
        ),
    )
    return c
