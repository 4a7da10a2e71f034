"""Notes on settings that are permitted and may not be meant, a line each, for the log and the plan."""

import pathlib
from collections.abc import Iterable, Iterator, Mapping

import jax
import numpy as np

from jaxdistill.build import weights
from jaxdistill.build.networks import data_class_names
from jaxdistill.build.stage import Stage
from jaxdistill.config.members import ScheduleConfig
from jaxdistill.core import UNLABELLED
from jaxdistill.runtime.onednn import setting as convolutions

LENGTHS = ("decay_steps", "transition_steps", "warmup_steps")


def notes(stage: Stage, workdir: pathlib.Path) -> list[str]:
    """Returns the notes on a stage; `workdir` is the folder of its run."""
    lines = [*_of_checkpoints(stage, workdir)]
    if stage.kind.trains:
        lines += [*_of_length(stage), *_of_texts(stage), *_of_labels(stage), *_of_networks(stage)]
    return lines


def notes_of_run(stages: Iterable[Stage]) -> list[str]:
    """Returns the notes on a run as a whole: what oneDNN's convolutions would gain, where they are not installed."""
    stages = [stage for stage in stages if stage.settings.convolutions == "auto"]
    if not any(_has_convolutions(stage) for stage in stages):
        return []
    return [line for line in (convolutions.describe_gain(),) if line]


def _has_convolutions(stage: Stage) -> bool:
    """Whether a network has a kernel of few places, more than one; those of patches are as fast as a product."""
    shapes = [x.shape for x in jax.tree.leaves(dict(stage.shapes.variables))]
    return any(len(shape) == 4 and 1 < shape[0] == shape[1] <= 7 for shape in shapes)


def _of_length(stage: Stage) -> Iterator[str]:
    settings, examples = stage.settings, len(stage.data.train)
    if settings.batch > examples:
        yield f"batch={settings.batch} is larger than the {examples} examples, so one comes several times in a batch"
    for path, schedule in _schedules(stage).items():
        steps = [*(schedule.at or ()), schedule.over or 0, schedule.until or 0]
        last = max([*steps, *(schedule.arguments.get(key) or 0 for key in LENGTHS)])
        if last > settings.steps:
            yield f"{path} changes until step {last}, and the stage ends at {settings.steps}"


def _of_texts(stage: Stage) -> Iterator[str]:
    counts = {role: counts for role, counts in stage.data.dataset.cut_texts.items() if counts[0]}
    if counts:
        parts = [f"{cut:,} of {number:,} texts of {role}" for role, (cut, number) in counts.items()]
        yield f"data.length={stage.settings.data.length} cuts {', '.join(parts)}, which lose tokens"
    written = stage.settings.on_policy
    if written.staleness and not written.share:
        yield f"on_policy.staleness={written.staleness} has no effect without on_policy.share, since no text is written"
    elif 0 < stage.settings.steps <= written.staleness:
        yield (
            f"on_policy.staleness={written.staleness} is not below the {stage.settings.steps} steps of the stage, so"
            " that the texts of the first step are read to its end"
        )


def _schedules(stage: Stage) -> Mapping[str, ScheduleConfig]:
    """Returns the schedules of a stage by path."""
    settings = stage.settings
    schedules = {"learning_rate": settings.learning_rate}
    for name, group in settings.optimizer.groups.items():
        schedules[f"optimizer.groups.{name}.learning_rate"] = group.learning_rate
    for name, network in settings.networks.items():
        schedules[f"networks.{name}.learning_rate"] = network.options.get("learning_rate")
    for name, term in settings.terms.items():
        schedules |= {f"terms.{name}.{key}": value for key, value in {"weight": term.weight, **term.fields}.items()}
    return {path: value for path, value in schedules.items() if isinstance(value, ScheduleConfig)}


def _of_labels(stage: Stage) -> Iterator[str]:
    """Yields notes on the labels that terms learn from; those of a streamed split are not read."""
    data = stage.settings.data
    learned = [name for name, term in stage.terms.items() if term.method.needs_labels]
    if not learned or not stage.data.task.reads_class_labels or not stage.data.resident:
        return
    labels = stage.data.train.labels()
    visible = labels[labels != UNLABELLED]
    counts = np.bincount(visible, minlength=1)
    of_classes = stage.data.task.predictions == "classes"  # an example of several labels has the number 0
    if of_classes and np.count_nonzero(counts) == 1:
        yield f"terms {learned} learn from labels of one class alone, class {int(np.argmax(counts))}"
    few = [str(number) for number in np.flatnonzero((counts > 0) & (counts < data.labels_per_class))]
    if of_classes and few:
        yield f"data.labels_per_class={data.labels_per_class} is more than the classes {', '.join(few[:9])} have"
    mixing = [name for name in data.augment if name.partition(":")[0] in ("mixup", "cutmix")]
    pairs = stage.settings.batch * (len(visible) / max(len(labels), 1)) ** 2
    if mixing and pairs < 1:
        yield (
            f"{mixing[0]} mixes pairs, of which both must have a label to count: about {pairs:.2g} of a batch, so that"
            f" the loss of {learned} is mostly 0"
        )


def _of_networks(stage: Stage) -> Iterator[str]:
    for name, config in stage.settings.networks.items():
        if config.options.get("quantize") and stage.networks[name].learns:
            yield f"networks.{name}.quantize has no effect on a network that learns; it is for source='frozen'"
        yield from (f"networks.{name}.{line}" for line in getattr(stage.networks[name], "notes", ()))


def _of_checkpoints(stage: Stage, workdir: pathlib.Path) -> Iterator[str]:
    """Yields what is assumed of weights of other runs whose checkpoints do not store it."""
    spec, names = stage.data.task.image_spec, data_class_names(stage.data.task)
    for name, refs in stage.references.items():
        ref = refs.get("weights")
        if ref is None or ref.folder is None:
            continue
        checkpoint = weights.find(ref, name, workdir, 0)
        path = f"weights of network {name!r}, {ref},"
        if spec is not None and checkpoint.image_spec is None:
            yield (
                f"{path} do not store their images; those of this stage are assumed, of shape {spec.shape}, mean"
                f" {_rounded(spec.mean)} and std {_rounded(spec.std)}. Set networks.{name}.preprocess to others"
            )
        if ref.new_head:
            continue
        stored = checkpoint.meaning.class_names
        if stage.data.task.reads_class_labels and bool(stored) != bool(names):
            owner = "the data" if stored else "the weights"
            yield f"{path} and the data are assumed to have their classes in one order, since {owner} have no names"


def _rounded(numbers: tuple[float, ...]) -> list[float]:
    return [round(float(x), 4) for x in numbers]
