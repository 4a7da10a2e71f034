"""Cached teachers on the digits in a few seconds: MLPs taught live, and by what the same teacher said before."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    # 20 steps of 120 are two passes over 1,077 examples and a bit: views come again, and batches span two of them.
    c.batch, c.steps, c.log_every = 120, 20, 1
    c.data = dict(name="digits", augment=("pad_crop:1", "rotate:5"), cycle=2)
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(24,), weights="stage:teacher"),
        cached=dict(source="cached", cache="stage:cache"),
        student=dict(source="trained", model="mlp", widths=(8,)),
    )
    c.terms = dict(kd=dict(method="kd", temperature=2.0))
    c.optimizer = dict(name="sgd")
    c.learning_rate = 0.05
    c.checkpoint = dict(every=10)
    c.evaluate = dict(every=10, metrics=("accuracy", "agreement"), saliency=False)
    c.cache = dict(views=2, dtype="float32", examples_per_shard=500)
    teacher = dict(
        networks=dict(teacher=dict(source="trained", weights="")),
        terms=dict(task=dict(method="cross_entropy", student="teacher")),
        evaluate=dict(every=0, metrics=()),
    )
    cache = dict(kind="cache", networks=dict(teacher={}))
    read = dict(networks=dict(teacher=dict(like="cached"), student={}), data=dict(cycle=0))
    if mode == "alone":
        c.stages = dict(cache=cache)
        return c
    if mode == "short":
        c.stages = dict(teacher=teacher, cache=cache, read=read)
        return c
    halved = dict(networks=dict(teacher=dict(like="cached", cache="stage:half"), student={}), data=dict(cycle=0))
    c.stages = dict(
        teacher=teacher,
        cache=cache,
        half=dict(kind="cache", networks=dict(teacher={}), cache=dict(dtype="float16", taps=("pooled",))),
        live=dict(networks=dict(teacher={}, student={})),
        read=read,
        halved=halved,
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                teacher={},
                cached={},
                both=dict(source="ensemble", of=("teacher", "cached")),
                student=dict(source="frozen", weights="stage:live"),
            ),
            evaluate=dict(split="test", reference="cached", pairs=("student:teacher",)),
        ),
    )
    return c
