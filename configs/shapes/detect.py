"""Shapes: a detector that has seen every label teaches a small one that sees the boxes of 100 images.

    python -m jaxdistill.launch --config configs/shapes/detect.py --workdir runs/shapes_detect
    python -m jaxdistill.launch --config configs/shapes/detect.py:smoke --workdir runs/shapes_detect_smoke

The 2,000 training images of shapes on textures are drawn, not downloaded. `alone` is the student on the images with
boxes, `distilled` on all images, from the teacher's scores and boxes alone.

Paper:    none; the task is ours.
Measured: docs/detection.md (python benchmarks/detection.py --task shapes).
"""

from jaxdistill.configs.stages import DETECTION, teacher_alone_distil
from ml_collections import ConfigDict

MODES = ("", "smoke")


def get_config(mode: str = "") -> ConfigDict:
    c = ConfigDict()
    c.batch, c.steps = 16, 350
    c.data = dict(name="shapes", annotations="boxes", size=48)
    encoder = dict(model="resnet", form="cifar", depths=(1, 1, 1, 1))
    fcos = dict(model="fcos", levels=("stage3", "stage4"), extra=0, groups=4, tower=1)
    c.networks = dict(
        teacher=dict(fcos, source="frozen", encoder=dict(encoder, width=12), width=32, weights="stage:teacher"),
        student=dict(fcos, source="trained", encoder=dict(encoder, width=6), width=16),
    )
    c.terms = dict(
        task=dict(method="fcos", reach=4.0, weight=1.0),
        kd=dict(method="crosskd", centerness=1.0, weight=1.0),
    )
    c.optimizer = dict(name="adamw", weight_decay=1e-2, clip=5.0)
    c.learning_rate = dict(name="cosine_decay", init_value=5e-3)
    c.evaluate = dict(every=350, metrics=("map", "map50"))
    c.stages = teacher_alone_distil(DETECTION, steps=450)
    c.stages.alone.data = dict(subset=dict(count=100))
    c.stages.distil.terms = dict(kd={})
    c.stages.evaluate.evaluate.pairs = ("distilled:alone", "distilled:teacher")
    if mode == "smoke":
        c.batch, c.steps, c.stages.teacher.steps = 8, 4, 4
        c.data.size = 32
    return c
