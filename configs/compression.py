"""Compression compared: one teacher, every way to make it smaller, each alone, fine-tuned and distilled.

    python -m jaxdistill.launch --config configs/compression.py:digits --workdir runs/compression_digits
    python -m jaxdistill.launch --config configs/compression.py:smoke --workdir runs/compression_smoke

The mode is the task; `benchmarks/compression.py` runs it with several seeds. Of each entry of `VIEWS` there are three
networks: `NAME_post` is the teacher under these views, without training; `NAME_tuned` goes on from it for `tune` steps
on the labels; `NAME_distilled` does the same on the labels and the teacher's probabilities. For quantised networks the
last is quantisation-aware distillation. `small_alone` and `small_distilled` are a small network from scratch, with the
teacher's number of steps; `structured50_tenth` is structured at a half, then distilled in a tenth of these steps.
"""

import dataclasses
from typing import Any

from jaxdistill.configs.texts import FINETUNE, SCRATCH, find_minilm
from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Task:
    """A task with its networks and budget.

    Attributes:
        data: the section `data`.
        teacher: the network that is made smaller.
        student: the small network.
        settings: further keys of the config.
        steps: steps from scratch, of the teacher and the small network.
        tune: steps from the teacher's weights.
        rate: learning rate of the small network.
        tune_rate: learning rate from the teacher's weights.
        teacher_rate: learning rate of the teacher.
        temperature: of the distillation.
        views: names of entries of `VIEWS` that the budget allows; all if empty.
        embeddings: whether quantized networks round their embeddings as well.
        width: whether structured networks also lose units of their residual streams, and so of their embeddings.
    """

    data: dict[str, Any]
    teacher: dict[str, Any]
    student: dict[str, Any]
    settings: dict[str, Any]
    steps: int
    tune: int
    rate: dict[str, Any]
    tune_rate: dict[str, Any]
    teacher_rate: dict[str, Any]
    temperature: float = 4.0
    views: tuple[str, ...] = ()
    embeddings: bool = False
    width: bool = True


def digits() -> Task:
    """Returns the digits: an MLP of 84,000 weights; students see all images and the labels of ten of each class."""
    rate = dict(name="cosine_decay", init_value=3e-3)
    return Task(
        data=dict(name="digits", augment=("pad_crop:1", "rotate:10"), labels_per_class=10),
        teacher=dict(source="trained", model="mlp", widths=(256, 256)),
        student=dict(source="trained", model="mlp", widths=(128, 128)),
        settings=dict(batch=128, optimizer=dict(name="adamw", weight_decay=1e-4)),
        steps=800,
        tune=200,
        rate=rate,
        tune_rate=dict(rate, init_value=1e-3),
        teacher_rate=rate,
    )


def mnist() -> Task:
    """Returns 10,000 images of MNIST: an MLP of 478,000 weights, ten epochs; from its weights two epochs."""
    rate = dict(name="cosine_decay", init_value=1e-3)
    splits = dict(train="train[:10000]", validation="train[55000:]", test="test")
    return Task(
        data=dict(name="mnist", splits=splits, augment=()),
        teacher=dict(source="trained", model="mlp", widths=(400, 400)),
        student=dict(source="trained", model="mlp", widths=(200, 200)),
        settings=dict(batch=128, optimizer=dict(name="adam")),
        steps=780,
        tune=156,
        rate=rate,
        tune_rate=dict(rate, init_value=5e-4),
        teacher_rate=rate,
    )


def cifar10() -> Task:
    """Returns CIFAR-10: ResNet-20, four epochs; from its weights 100 steps. The test split is its first 2,000."""
    splits = dict(train="train[:45000]", validation="train[45000:]", test="test[:2000]")
    rate = dict(name="warmup_cosine_decay", init_value=0.0, peak_value=0.2, warmup_fraction=0.1)
    return Task(
        data=dict(name="cifar10", splits=splits, augment=("pad_crop:4", "flip")),
        teacher=dict(source="trained", model="cifar_resnet", depth=20),
        student=dict(source="trained", model="cifar_resnet", depth=8),
        settings=dict(batch=128, optimizer=dict(name="sgd", momentum=0.9, nesterov=True, weight_decay=5e-4)),
        steps=1400,
        tune=100,
        rate=rate,
        tune_rate=dict(name="cosine_decay", init_value=0.02),
        teacher_rate=rate,
        views=LARGE,
    )


def ag_news() -> Task:
    """Returns 6,000 texts of AG News: MiniLM, an epoch; from its weights a fifth of one. Tested on 800 texts."""
    minilm = find_minilm()
    texts = dict(text="title", pair="description", length=128, buckets=(48, 64, 96, 128), pool=16)
    splits = dict(train="train[:6000]", validation="test[:400]", test="test[800:]")
    return Task(
        data=dict(name="ag_news_subset", splits=splits, tokenizer=f"hf:{minilm}", **texts),
        teacher=dict(source="trained", weights=f"hf:{minilm}", head="new", dropout=0.1),
        student=dict(source="trained", model="encoder", layers=3, width=144, heads=12, hidden=576, dropout=0.1),
        settings=dict(batch=32, optimizer=dict(name="adamw", weight_decay=0.01, decay_on="kernel|embedding", clip=1.0)),
        steps=188,
        tune=40,
        rate=SCRATCH,
        tune_rate=dict(FINETUNE, peak_value=5e-5),
        teacher_rate=dict(FINETUNE, peak_value=5e-5),
        temperature=2.0,
        views=("quantized8", "quantized4"),
        embeddings=True,
        width=False,
    )


LARGE = (
    "quantized8",
    "quantized4",
    "sparse80",
    "sparse24",
    "low_rank",
    "structured50",
    "structured50_quantized8",
)
"""Entries of `VIEWS` of the tasks of which two cores train few networks."""

TASKS = dict(digits=digits, mnist=mnist, cifar10=cifar10, ag_news=ag_news)


def quantized(bits: int) -> dict[str, Any]:
    """Returns the view of weights of so many bits, and of layers' inputs in 8."""
    return dict(quantize=dict(view="quantize", bits=bits, activations=8))


def fit_task(views: dict[str, Any], task: Task) -> dict[str, Any]:
    """Returns an entry of `VIEWS` as a task has it: with its embeddings rounded, and its residual streams whole."""
    views = {name: dict(view) for name, view in views.items()}
    if task.embeddings and "quantize" in views:
        views["embeddings"] = dict(view="quantize", bits=views["quantize"]["bits"], match="embedding")
    if "structure" in views:
        views["structure"]["width"] = task.width
    return views


def sparse(sparsity: float) -> dict[str, Any]:
    """Returns the view of the largest weights of the whole network."""
    return dict(sparse=dict(view="sparse", sparsity=sparsity, scope="global"))


def structured(keep: float) -> dict[str, Any]:
    """Returns the view of a fraction of the units of every layer."""
    return dict(structure=dict(view="structure", keep=keep))


LOW_RANK = dict(low_rank=dict(view="low_rank", fraction=0.25))
"""A quarter of the largest rank: half of the weights of a square kernel."""

INNER = r"^(?!.*(stem|head)).*kernel$"
"""Kernels between the first and the last layer; the 27 inputs of a stem are no multiple of 4."""

VIEWS = dict(
    quantized8=quantized(8),
    quantized4=quantized(4),
    sparse50=sparse(0.5),
    sparse80=sparse(0.8),
    sparse90=sparse(0.9),
    sparse95=sparse(0.95),
    sparse24=dict(sparse=dict(view="sparse", n=2, m=4, match=INNER)),
    low_rank=LOW_RANK,
    structured75=structured(0.75),
    structured50=structured(0.5),
    structured25=structured(0.25),
    sparse80_quantized8=sparse(0.8) | quantized(8),
    low_rank_quantized8=LOW_RANK | quantized(8),
    structured50_quantized8=structured(0.5) | quantized(8),
    structured50_quantized4=structured(0.5) | quantized(4),
)
"""Views by the name of the network."""

RESIZING = ("structure", "low_rank")
"""Views that a stage of kind "compress" fits."""

TENTH = "structured50"
"""The entry that is also distilled in a tenth of the steps from scratch."""

SMOKE = ("quantized4", "sparse24", "low_rank", "structured50_quantized8")
MODES = ("digits", "mnist", "cifar10", "ag_news", "smoke")


def get_config(mode: str = "digits") -> ConfigDict:
    task = TASKS["digits" if mode == "smoke" else mode]()
    if mode == "smoke":
        task = dataclasses.replace(task, steps=10, tune=2)
    c = ConfigDict(task.settings)
    c.steps, c.data = task.steps, task.data
    c.networks = dict(teacher=task.teacher, student=task.student)
    c.terms = dict(task=dict(method="cross_entropy"), kd=dict(method="kd", temperature=task.temperature))
    c.learning_rate = task.rate
    c.evaluate = dict(metrics=())  # the networks of the final table alone are measured
    teacher = dict(source="frozen", weights="stage:teacher")
    stages: dict[str, Any] = dict(
        teacher=dict(
            networks=dict(teacher={}), terms=dict(task=dict(student="teacher")), learning_rate=task.teacher_rate
        ),
        small_alone=dict(networks=dict(student={}), terms=dict(task={})),
        small_distilled=dict(networks=dict(teacher=teacher, student={})),
    )
    if "labels_per_class" in task.data:
        stages["teacher"]["data"] = dict(labels_per_class=0)
    small = dict(like="student", source="frozen")
    networks = dict(
        teacher=teacher,
        small_alone=dict(small, weights="stage:small_alone"),
        small_distilled=dict(small, weights="stage:small_distilled"),
    )
    for name in SMOKE if mode == "smoke" else task.views or VIEWS:
        add_stages(name, stages, networks, task)
    metrics = ("accuracy", "nll", "agreement")
    evaluate = dict(split="test", networks=tuple(networks), metrics=metrics, saliency=False, cost=True)
    c.stages = dict(**stages, evaluate=dict(kind="evaluate", networks=networks, evaluate=evaluate))
    return c


def add_stages(name: str, stages: dict[str, Any], networks: dict[str, Any], task: Task) -> None:
    """Adds the stages of an entry of `VIEWS`, and the networks of the final table that they make.

    Args:
        name: of the entry.
        stages: those of the pipeline.
        networks: those of the final table.
        task: its budget.
    """
    teacher = dict(source="frozen", weights="stage:teacher")
    compressed = dict(like="teacher", compress=fit_task(VIEWS[name], task))
    start = "stage:teacher#teacher"
    if {*VIEWS[name]} & {*RESIZING}:
        start = f"stage:{name}_cut"
        fitted = dict(compressed, source="trained", weights="")
        stages[f"{name}_cut"] = dict(
            kind="compress",
            networks=dict(teacher=teacher, student=fitted),
            compress=dict(network="teacher", into="student"),
        )
    networks[f"{name}_post"] = dict(compressed, source="frozen", weights=start)
    student = dict(compressed, source="trained", weights=start)
    forms = dict(tuned=task.tune, distilled=task.tune) | (dict(tenth=task.steps // 10) if name == TENTH else {})
    for form, steps in forms.items():
        stage = dict(networks=dict(student=student), steps=steps, learning_rate=task.tune_rate)
        if form == "tuned":
            stage["terms"] = dict(task={})
        else:
            stage["networks"]["teacher"] = teacher
        stages[f"{name}_{form}"] = stage
        networks[f"{name}_{form}"] = dict(compressed, source="frozen", weights=f"stage:{name}_{form}#student")
