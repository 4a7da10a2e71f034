"""Shapes: a segmentation network teaches a small one that sees a tenth of the images."""

from ml_collections import ConfigDict

from configs.stages import teacher_alone_distil

MODES = ("", "smoke")
METRICS = ("mean_iou", "accuracy", "boundary_f1", "nll", "agreement", "kl", "per_class_iou")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 32, 300
    c.data = dict(name="shapes", annotations="masks", size=48, augment=("flip",), subset=dict(count=100))
    encoder = dict(model="resnet", width=32, depths=(1, 1, 1, 1))
    small = dict(model="resnet", width=8, depths=(1, 1, 1))
    c.networks = dict(
        teacher=dict(source="frozen", model="fpn_segmenter", encoder=encoder, width=64, weights="stage:teacher"),
        student=dict(source="trained", model="fpn_segmenter", encoder=small, width=16),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=1.0),
        kd=dict(method="kd", temperature=2.0, weight=1.0),
    )
    c.optimizer = dict(name="adamw", weight_decay=1e-2)
    c.learning_rate = dict(name="cosine_decay", init_value=3e-3)
    c.evaluate = dict(every=100, metrics=("mean_iou", "accuracy"))
    c.stages = teacher_alone_distil(METRICS, data=dict(subset=dict(count=0)))
    c.stages.evaluate.evaluate.pairs = ("distilled:alone",)
    if mode == "smoke":
        c.steps = 4
    return c
