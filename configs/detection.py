"""Parts of the configs of detection: BCCD's blood cells with boxes, a teacher, and small students.

https://github.com/Shenggan/BCCD_Dataset: 205 images of blood smears to train on, 87 to validate on, 72 to test on, with
boxes of red cells, white cells and platelets. Images are resized to 120 x 160, so that a place of the finest level is
32 pixels of the original. The networks are ResNets with a feature pyramid and FCOS's head, trained from scratch for 25
epochs, few for such a set: the comparison is within this budget. All distances are distributions, since LD compares
these.
"""

from typing import Any

from jaxdistill.configs.stages import DETECTION, teacher_alone_distil
from ml_collections import ConfigDict

DATA = dict(
    name="bccd",
    annotations="boxes",
    class_names=("RBC", "WBC", "Platelets"),
    size=120,
    width=160,
    splits=dict(train="train", validation="validation", test="test"),
    augment=("flip",),
)
LAYERS = "P3,P4"
SCORES = dict(method="multi_label", weight=20.0)
METHODS = dict(
    kd=dict(kd=SCORES),
    ld=dict(kd=SCORES, ld=dict(method="ld", reach=4.0, weight=0.25)),
    crosskd=dict(crosskd=dict(method="crosskd", student="crossed", box=4.0, weight=1.0)),
    fgd=dict(
        fgd=dict(
            method="fgd",
            layers=LAYERS,
            temperature=0.8,
            foreground=1.6e-3,
            background=8e-4,
            attention=8e-4,
            relation=8e-6,
        )
    ),
    mgd=dict(mgd=dict(method="mgd", layers=LAYERS, masks="pixel", ratio=0.65, alpha=2e-5)),
    pearson=dict(pearson=dict(method="pearson_kd", layers=LAYERS, weight=2.0)),
)
"""Terms beside FCOS's losses by method: weights of the papers, but for the scores, whose mean is over all locations."""


def bccd(method: str, mode: str = "") -> ConfigDict:
    """Returns a config: a teacher is trained, then a student without it and by a method, and the three are measured.

    Args:
        method: one of `METHODS`.
        mode: "", or "smoke" for four steps of tiny networks on shapes.
    """
    c = _settings(mode)
    c.terms = dict(_task(), **METHODS[method])
    c.stages = teacher_alone_distil(DETECTION)
    c.stages.evaluate.evaluate.pairs = ("distilled:alone", "distilled:teacher")
    if method == "crosskd":
        c.networks.crossed = CROSSED
        c.stages.distil.networks = dict(teacher={}, student={}, crossed={})
        c.stages.evaluate.networks.distilled.weights = "stage:distil#student"
    return c


def get_config(mode: str = "") -> ConfigDict:
    """Returns a config of one pipeline, for `benchmarks/detection.py`: one teacher, and a student by each method.

    Args:
        mode: as of `bccd`.
    """
    c = _settings(mode)
    terms = {f"{name}_{key}": term for name, of_method in METHODS.items() for key, term in of_method.items()}
    c.terms = dict(_task(), **terms)
    c.networks.crossed = CROSSED
    base = teacher_alone_distil(DETECTION)
    stages: dict[str, Any] = dict(teacher=base["teacher"], alone=base["alone"])
    for name, of_method in METHODS.items():
        networks = dict(teacher={}, student={}, **(dict(crossed={}) if name == "crosskd" else {}))
        stages[name] = dict(networks=networks, terms=dict(task={}, **{f"{name}_{key}": {} for key in of_method}))
    students = {
        name: dict(like="student", source="frozen", weights=f"stage:{name}#student")
        for name in stages
        if name != "teacher"
    }
    networks = dict(teacher={}, **students)
    evaluate = dict(split="test", networks=tuple(networks), metrics=DETECTION)
    c.stages = dict(**stages, evaluate=dict(kind="evaluate", networks=networks, evaluate=evaluate))
    return c


CROSSED = dict(source="crossed_head", of="student", teacher="teacher", crossing=1)


def _task() -> dict[str, Any]:
    return dict(task=dict(method="fcos", reach=4.0, weight=1.0))


def _settings(mode: str) -> ConfigDict:
    c = ConfigDict()
    c.batch, c.epochs = 16, 25
    c.data = DATA
    c.networks = dict(
        teacher=dict(source="frozen", weights="stage:teacher", **_network(width=16, channels=32, tower=2)),
        student=dict(source="trained", **_network(width=8, channels=16, tower=1)),
    )
    c.optimizer = dict(name="adamw", weight_decay=1e-2, clip=5.0)
    c.learning_rate = dict(name="cosine_decay", init_value=5e-3)
    c.evaluate = dict(every_epochs=0, metrics=("map", "map50"))
    if mode == "smoke":
        c.batch, c.epochs, c.steps, c.log_every = 8, 0, 4, 2
        c.data = dict(name="shapes", annotations="boxes", size=32, subset=dict(count=16))
    return c


def _network(width: int, channels: int, tower: int) -> dict[str, Any]:
    """Returns a detector on a ResNet whose levels have strides of 8 and 16."""
    encoder = dict(model="resnet", width=width, depths=(1, 1, 1))
    fcos = dict(model="fcos", levels=("stage2", "stage3"), extra=0, groups=4, bins=8)
    return dict(fcos, encoder=encoder, width=channels, tower=tower)
