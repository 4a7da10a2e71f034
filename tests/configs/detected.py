"""Detection on tiny drawn shapes: a teacher, and a student of it by crossed heads, or of a cache; exported."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 16, 4, 1
    c.data = dict(name="shapes", annotations="boxes", size=32, augment=("flip",), subset=dict(count=16))
    encoder = dict(model="convnext", depths=(1, 1), widths=(4, 6), patch=4)
    fcos = dict(model="fcos", encoder=encoder, extra=0, groups=2, bins=4)
    c.networks = dict(
        teacher=dict(fcos, source="frozen", weights="stage:teacher", width=8, tower=2),
        student=dict(fcos, source="trained", width=4, tower=1),
        crossed=dict(source="crossed_head", of="student", crossing=1),
    )
    c.terms = dict(
        task=dict(method="fcos"),
        kd=dict(method="multi_label"),
        ld=dict(method="ld"),
        crosskd=dict(method="crosskd", student="crossed"),
    )
    c.optimizer = dict(name="sgd")
    c.learning_rate = 0.02
    c.evaluate = dict(every=2, metrics=("map", "map50"))
    teacher = dict(networks=dict(teacher=dict(source="trained", weights="")), terms=dict(task=dict(student="teacher")))
    frozen = dict(like="student", source="frozen", weights="stage:distil#student")
    metrics = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "map_per_class", "box_agreement")
    final = dict(split="test", metrics=metrics, pairs=("student:teacher",))
    c.stages = dict(
        teacher=teacher,
        distil={},
        evaluate=dict(kind="evaluate", networks=dict(teacher={}, student=frozen), evaluate=final),
    )
    if mode == "cached":
        terms = dict(task={}, kd={}, ld={})
        cache = dict(network="teacher", taps=("edges",), splits=("train",), dtype="float32")
        c.data.cycle = 1
        c.stages = dict(
            teacher=teacher,
            cache=dict(kind="cache", networks=dict(teacher={}), cache=cache),
            live=dict(networks=dict(teacher={}, student={}), terms=terms),
            read=dict(networks=dict(teacher=dict(source="cached", cache="stage:cache"), student={}), terms=terms),
        )
    if mode == "export":
        export = dict(kind="export", networks=dict(student=frozen), export=dict(format="stablehlo"))
        c.stages = dict(c.stages, export=export)
    return c
