"""Every kind of stage on the digits in a few seconds: what signals interrupt."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 64, 60, 20
    c.data = dict(name="digits", augment=("pad_crop:1",))
    c.networks = dict(
        teacher=dict(source="frozen", model="mlp", widths=(24,), weights="stage:one"),
        cached=dict(source="cached", cache="stage:cache"),
        student=dict(source="trained", model="mlp", widths=(8,), dropout=0.2),
    )
    c.optimizer = dict(name="adam")
    c.learning_rate = 1e-2
    c.evaluate = dict(every=20, metrics=("accuracy", "nll"), saliency=False)
    c.checkpoint = dict(every=10)
    c.cache = dict(views=1, dtype="float32", examples_per_shard=200)
    teach = dict(
        networks=dict(teacher=dict(source="trained", weights="")),
        terms=dict(task=dict(method="cross_entropy", student="teacher")),
    )
    members = {name: dict(like="teacher", weights=f"stage:{name}") for name in ("one", "two")}
    components = dict(source="head", of="teacher", tap="pooled", head="pca", components=4)
    c.stages = dict(
        forest=dict(kind="sklearn", sklearn=dict(name="forest", settings=dict(n_estimators=10))),
        one=dict(seed=1, **teach),
        two=dict(seed=2, **teach),
        merge=dict(kind="merge", networks=members, merge=dict(networks=("one", "two"), rule="soup", align=True)),
        components=dict(kind="pca", networks=dict(teacher={}, reduced=components)),
        cache=dict(kind="cache", networks=dict(teacher={})),
        distil=dict(
            networks=dict(cached={}, student={}),
            terms=dict(kd=dict(method="kd", student="student", teacher="cached")),
            steps_per_call=4,
        ),
        evaluate=dict(
            kind="evaluate",
            networks=dict(
                teacher={},
                merged=dict(like="teacher", weights="stage:merge#merged"),
                student=dict(source="frozen", weights="stage:distil"),
            ),
            evaluate=dict(split="test", networks=("teacher", "merged", "student")),
        ),
    )
    return c
