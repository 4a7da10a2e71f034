"""A language model that teaches another, live and from a cache of its likeliest tokens; and classifiers of texts."""

from ml_collections import ConfigDict

LLAMA = dict(model="decoder", heads=2, positions="rotary", norm="rms", activation="swiglu", bias=False, length=32)
ENCODER = dict(model="encoder", heads=2, vocabulary=11, length=6, segments=0)


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 16, 12, 4
    c.optimizer = dict(name="sgd", momentum=0.9, clip=1.0)
    c.learning_rate = 0.3
    c.evaluate = dict(every=6)
    c = classes(c) if mode == "classes" else tokens(c)
    if mode == "lanes":
        c.stages = {name: c.stages[name] for name in ("teacher", "live")}
        c.stages.lanes = dict(sweep=dict(terms=dict(kd=dict(weight=(1.0, 0.5)))), evaluate=dict(metrics=()))
    return c


def tokens(c):
    c.data = dict(name="arithmetic", length=32)
    c.networks = dict(
        teacher=dict(LLAMA, source="frozen", layers=2, width=16, scan=True, weights="stage:teacher"),
        student=dict(LLAMA, source="trained", layers=1, width=8),
    )
    c.terms = dict(task=dict(method="cross_entropy", weight=0.5, chunk=100), kd=dict(method="top_k", k=3, chunk=100))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")),
            terms=dict(task=dict(student="teacher", weight=1.0)),
        ),
        live=dict(),
        ask=dict(
            kind="cache",
            networks=dict(teacher={}),
            cache=dict(store="top_k", k=3, dtype="float32", examples_per_shard=1000),
        ),
        read=dict(
            networks=dict(teacher=dict(source="cached", cache="stage:ask", tail="bucket"), student={}),
            checkpoint=dict(keep="best"),
        ),
        evaluate=dict(
            kind="evaluate",
            networks=dict(teacher={}, student=dict(source="frozen", weights="stage:read")),
            evaluate=dict(
                split="test", metrics=("nll", "perplexity", "bits_per_byte", "accuracy", "agreement", "kl"), batch=40
            ),
        ),
    )
    return c


def classes(c):
    c.data = dict(name="npz")
    c.networks = dict(
        teacher=dict(ENCODER, source="frozen", layers=2, width=16, weights="stage:teacher"),
        student=dict(ENCODER, source="trained", layers=1, width=8),
    )
    c.terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd"), states=dict(method="hidden_state"))
    c.stages = dict(
        teacher=dict(
            networks=dict(teacher=dict(source="trained", weights="")), terms=dict(task=dict(student="teacher"))
        ),
        distil=dict(),
        evaluate=dict(
            kind="evaluate",
            networks=dict(teacher={}, student=dict(source="frozen", weights="stage:distil")),
            evaluate=dict(split="test", metrics=("accuracy", "nll", "agreement", "confusion")),
        ),
    )
    return c
