"""Segmentation of tiny images: a teacher, a cache of it, and a student of both; evaluated and exported."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 8, 4, 1
    c.data = dict(name="toy_label_maps:read", augment=("flip",))
    encoder = dict(model="resnet", depths=(1, 1), form="cifar")
    c.networks = dict(
        teacher=dict(
            source="frozen",
            weights="stage:teacher",
            model="fpn_segmenter",
            encoder=dict(encoder, width=6),
            width=8,
        ),
        student=dict(source="trained", model="fpn_segmenter", encoder=dict(encoder, width=4), width=4),
    )
    c.terms = dict(
        task=dict(method="cross_entropy"),
        kd=dict(method="kd", temperature=2.0),
        cwd=dict(method="cwd", layers="logits"),
    )
    c.optimizer = dict(name="sgd")
    c.learning_rate = 0.02
    c.checkpoint = dict(every=2)
    c.evaluate = dict(every=2, metrics=("mean_iou", "accuracy"))
    teacher = dict(
        networks=dict(teacher=dict(source="trained", weights="")), terms=dict(task=dict(student="teacher")), steps=4
    )
    frozen = dict(like="student", source="frozen", weights="stage:distil")
    metrics = ("mean_iou", "accuracy", "boundary_f1", "nll", "agreement", "kl", "per_class_iou", "confusion")
    final = dict(split="test", metrics=metrics)
    c.stages = dict(
        teacher=teacher,
        distil={},
        evaluate=dict(kind="evaluate", networks=dict(teacher={}, student=frozen), evaluate=final),
    )
    if mode == "cached":
        cache = dict(network="teacher", views=1, splits=("train",))
        cached = dict(teacher=dict(source="cached", cache="stage:cache"), student={})
        c.data.cycle = 1
        c.stages = dict(
            teacher=teacher,
            cache=dict(kind="cache", networks=dict(teacher={}), cache=dict(cache, dtype="float32")),
            distil={},
            read=dict(networks=cached),
        )
    if mode == "export":
        done = dict(student=frozen)
        c.stages = dict(c.stages, export=dict(kind="export", networks=done, export=dict(format="stablehlo")))
    return c
