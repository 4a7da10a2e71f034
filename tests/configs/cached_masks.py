"""A segmentation network on tiny drawn shapes, taught live and from a cache under augmentation that moves pixels."""

from ml_collections import ConfigDict


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps, c.log_every = 8, 4, 1
    augment = ("scale:0.7,1.5", "flip", "jitter:0.2,0.2")
    c.data = dict(name="npz", path="shapes.npz", annotations="masks", augment=augment, cycle=2)
    model = dict(model="fpn_segmenter", encoder=dict(model="resnet", width=4, depths=(1, 1, 1)), width=8)
    c.networks = dict(
        teacher=dict(source="frozen", weights="stage:teacher", **model),
        cached=dict(source="cached", cache="stage:cache"),
        student=dict(source="trained", **model),
    )
    c.terms = dict(kd=dict(method="kd", temperature=2.0))
    c.optimizer = dict(name="sgd")
    c.learning_rate = 0.05
    c.evaluate = dict(metrics=("accuracy", "agreement"), split="validation")
    c.cache = dict(views=2, dtype="float32", splits=("train",))
    teacher = dict(
        networks=dict(teacher=dict(source="trained", weights="")),
        terms=dict(task=dict(method="cross_entropy", student="teacher")),
        evaluate=dict(metrics=()),
    )
    c.stages = dict(
        teacher=teacher,
        cache=dict(kind="cache", networks=dict(teacher={})),
        live=dict(networks=dict(teacher={}, student={}), evaluate=dict(metrics=("accuracy",))),
        read=dict(
            networks=dict(teacher=dict(like="cached"), student={}),
            data=dict(cycle=0),
            evaluate=dict(metrics=("accuracy",), networks=("student",)),
        ),
    )
    return c
