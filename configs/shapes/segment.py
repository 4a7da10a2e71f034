"""Shapes: a segmentation network that has seen every label teaches a small one that sees the labels of 100 images.

    python -m jaxdistill.launch --config configs/shapes/segment.py --workdir runs/shapes_segment
    python -m jaxdistill.launch --config configs/shapes/segment.py:smoke --workdir runs/shapes_segment_smoke

The 2,000 training images of shapes on textures are drawn, not downloaded. `alone` is the student on the images with
labels, `distilled` on all images, from the teacher's classes of each pixel alone.

Paper:    none; the task is ours.
Measured: docs/segmentation.md (python benchmarks/segmentation.py --task shapes).
"""

from jaxdistill.configs.stages import SEGMENTATION, teacher_alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 16, 500
    c.data = dict(name="shapes", annotations="masks", size=48)
    encoder = dict(model="resnet", form="cifar", depths=(1, 1, 1, 1))
    levels = ("stage2", "stage3", "stage4")
    c.networks = dict(
        teacher=dict(
            source="frozen",
            model="fpn_segmenter",
            encoder=dict(encoder, width=12),
            levels=levels,
            width=24,
            weights="stage:teacher",
        ),
        student=dict(source="trained", model="fpn_segmenter", encoder=dict(encoder, width=6), levels=levels, width=12),
    )
    c.terms = dict(
        task=dict(method="cross_entropy", weight=1.0),
        kd=dict(method="kd", temperature=1.0, weight=1.0),
    )
    c.optimizer = dict(name="adamw", weight_decay=1e-2)
    c.learning_rate = dict(name="cosine_decay", init_value=5e-3)
    c.evaluate = dict(every=250, metrics=("mean_iou", "accuracy"))
    c.stages = teacher_alone_distil(SEGMENTATION)
    c.stages.alone.data = dict(subset=dict(count=100))
    c.stages.distil.terms = dict(kd={})
    c.stages.evaluate.evaluate.pairs = ("distilled:alone",)
    if mode == "smoke":
        c.batch, c.steps = 4, 4
        c.data.size = 32
    return c
