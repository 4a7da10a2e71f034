"""Parts of the configs of segmentation: CamVid with a class per pixel, a teacher, and small students.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video: A high-definition ground truth database", 2009: 367
images of streets to train on, 101 to validate on, 233 to test on, with 11 classes and void. Images are resized to 96 x
128. The networks are ResNets with a feature pyramid, trained from scratch for 10 epochs, few for such a set: the
comparison is within this budget.
"""

from typing import Any

from jaxdistill.configs.stages import SEGMENTATION, teacher_alone_distil
from ml_collections import ConfigDict

CLASSES = (
    *("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car", "Pedestrian"),
    "Bicyclist",
)
DATA = dict(
    name="camvid",
    annotations="masks",
    class_names=CLASSES,
    void=(11,),
    size=96,
    width=128,
    splits=dict(train="train", validation="validation", test="test"),
    augment=("flip", "scale:0.75,1.5"),
)
PIXELS = dict(method="kd", temperature=1.0, weight=1.0)
METHODS = dict(
    kd=dict(kd=PIXELS),
    cwd=dict(cwd=dict(method="cwd", layers="logits", temperature=4.0, weight=3.0)),
    skd=dict(skd=dict(method="skd", layers="decoded", pixel=1.0, pair=1.0)),
    ifvd=dict(kd=PIXELS, ifvd=dict(method="ifvd", layers="decoded", weight=20.0)),
    cirkd=dict(
        kd=PIXELS,
        cirkd=dict(
            method="cirkd",
            layers="stage3",
            pixel_memory=2000,
            region_memory=200,
            pixel_keys=1024,
            region_keys=256,
        ),
    ),
)
"""Terms beside the cross-entropy by method; IFVD and CIRKD stand beside the pixels' KD, as in their papers."""


def camvid(method: str, mode: str = "") -> ConfigDict:
    """Returns a config: a teacher is trained, then a student without it and by a method, and the three are measured.

    Args:
        method: one of `METHODS`.
        mode: "", or "smoke" for four steps of tiny networks on shapes.
    """
    c = _settings(mode)
    c.terms = dict(task=dict(method="cross_entropy", weight=1.0), **METHODS[method])
    c.stages = teacher_alone_distil(SEGMENTATION)
    c.stages.evaluate.evaluate.pairs = ("distilled:alone",)
    return c


def get_config(mode: str = "") -> ConfigDict:
    """Returns a config of one pipeline, for `benchmarks/segmentation.py`: one teacher, and a student by each method.

    Args:
        mode: as of `camvid`.
    """
    c = _settings(mode)
    terms = {f"{name}_{key}": term for name, of_method in METHODS.items() for key, term in of_method.items()}
    c.terms = dict(task=dict(method="cross_entropy", weight=1.0), **terms)
    base = teacher_alone_distil(SEGMENTATION)
    stages: dict[str, Any] = dict(teacher=base["teacher"], alone=base["alone"])
    for name, of_method in METHODS.items():
        stages[name] = dict(terms=dict(task={}, **{f"{name}_{key}": {} for key in of_method}))
    students = {
        name: dict(like="student", source="frozen", weights=f"stage:{name}") for name in stages if name != "teacher"
    }
    networks = dict(teacher={}, **students)
    evaluate = dict(split="test", networks=tuple(networks), metrics=SEGMENTATION)
    c.stages = dict(**stages, evaluate=dict(kind="evaluate", networks=networks, evaluate=evaluate))
    return c


def _settings(mode: str) -> ConfigDict:
    c = ConfigDict()
    c.batch, c.epochs = 16, 10
    c.data = DATA
    c.networks = dict(
        teacher=dict(source="frozen", weights="stage:teacher", **_network(width=16, depths=(2, 2, 2, 2))),
        student=dict(source="trained", **_network(width=8, depths=(1, 1, 1, 1))),
    )
    c.optimizer = dict(name="adamw", weight_decay=1e-2, clip=1.0)
    c.learning_rate = dict(name="cosine_decay", init_value=5e-3)
    c.evaluate = dict(every_epochs=5, metrics=("mean_iou", "accuracy"))
    if mode == "smoke":
        c.batch, c.epochs, c.steps, c.log_every = 4, 0, 4, 2
        c.data = dict(name="shapes", annotations="masks", size=32, subset=dict(count=16))
        c.evaluate.every_epochs = 0
    return c


def _network(width: int, depths: tuple[int, ...]) -> dict[str, Any]:
    encoder = dict(model="resnet", width=width, depths=depths)
    return dict(model="fpn_segmenter", encoder=encoder, width=2 * width)
