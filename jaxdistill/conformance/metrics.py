"""Promises of metrics, on toy outputs with one prediction per image and with one per token."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from jaxdistill import core
from jaxdistill.conformance import toy_outputs
from jaxdistill.conformance.promise import NotApplicable, Promise, require, require_close
from jaxdistill.core import Batch, Output
from jaxdistill.metrics.metric import Gather, GatheringMetric, Metric

TASKS = {
    "classes": ("images", "next_tokens"),
    "pixels": ("pixels",),
    "labels": ("labels",),
    "gaussian": ("gaussian",),
    "quantiles": ("quantiles",),
    "boxes": ("boxes",),
}
"""Toy tasks by the form of the predictions that a metric is for."""

BATCHES = 8
"""Number of batches of a split, so that no count of a usual metric is 0."""

KEPT = 4
"""Number of rows that count where some are masked; CKA takes no fewer."""

Batches = Sequence[tuple[Output, Batch, Output]]
"""The output, the batch and the reference's output, of each batch of a split."""


@functools.cache
def compile_rows(gather: Gather) -> Callable[..., Any]:
    """Returns the compiled rows, once for all metrics of a gather."""
    return jax.jit(gather.rows)


@dataclasses.dataclass(frozen=True, eq=False)
class ToyMetric:
    """A metric, with a split of a task.

    Attributes:
        metric: an instance.
        task: one of those of `TASKS`.
    """

    metric: Metric | GatheringMetric
    task: str

    @functools.cached_property
    def batches(self) -> Batches:
        """A split in which all predictions of the task count."""
        # As numpy arrays: each of the edits of a check would be a program that JAX compiles.
        batch = jax.device_get(toy_outputs.batch(self.task))
        if "label" in batch and "valid" not in batch:
            counts = batch["mask"].reshape(-1, *[1] * (batch["label"].ndim - 1))
            batch = {**batch, "valid": counts * np.ones(batch["label"].shape, np.float32)}
        sides = [
            (toy_outputs.output(self.task, seed), toy_outputs.output(self.task, 100 + seed)) for seed in range(BATCHES)
        ]
        return [(output, batch, reference) for output, reference in jax.device_get(sides)]

    @functools.cached_property
    def compiled(self) -> Callable[..., Any]:
        """The compiled `sums`, or rows."""
        metric = self.metric
        return compile_rows(metric.gather) if isinstance(metric, GatheringMetric) else jax.jit(metric.sums)

    def sums(self, output: Output, batch: Batch, reference: Output) -> Any:
        """Returns the sums of a batch in float64."""
        sums = self.compiled(output, batch, reference if self.metric.needs_reference else None)
        return jax.tree.map(lambda x: np.asarray(x, np.float64), sums)

    def value(self, batches: Batches) -> Any:
        """Returns the metric of a split."""
        metric = self.metric
        if isinstance(metric, GatheringMetric):
            rows = [self._rows(output, batch) for output, batch, _ in batches]
            return metric.finish(metric.gather.summarize(jax.tree.map(lambda *x: np.concatenate(x), *rows)))
        parts = [self.sums(*batch) for batch in batches]
        return metric.finish(jax.tree.map(lambda *leaves: sum(leaves), *parts))

    def _rows(self, output: Output, batch: Batch) -> Any:
        """Returns the rows of the examples of a batch that count."""
        return jax.tree.map(lambda x: np.asarray(x)[batch["mask"] > 0], self.compiled(output, batch))


@dataclasses.dataclass(frozen=True)
class ToyMetrics:
    """A metric on each of the tasks."""

    metric: Metric | GatheringMetric

    @functools.cached_property
    def toys(self) -> tuple[ToyMetric, ...]:
        """The metric with a split of each task."""
        return tuple(ToyMetric(self.metric, task) for task in TASKS[getattr(self.metric, "predictions", "classes")])


def make_subject(member: Metric | GatheringMetric | Callable[..., Metric], **fields: Any) -> ToyMetrics:
    """Takes an entry of a table `METRICS`, or makes one of a class."""
    return ToyMetrics(member(**fields) if isinstance(member, type) else member)


def on_tasks(check: Callable[[ToyMetric], None]) -> Callable[[ToyMetrics], None]:
    """Returns the check on every task."""

    @functools.wraps(check)
    def check_all(subject: ToyMetrics) -> None:
        for toy in subject.toys:
            check(toy)

    return check_all


def declared(subject: ToyMetrics) -> None:
    metric = subject.metric
    require(metric.better in ("max", "min", None), f"better must be 'max', 'min' or None, got {metric.better!r}")
    for name in ("needs_reference", "needs_labels"):
        value = getattr(metric, name)
        require(isinstance(value, bool), f"{name} must be True or False, got {value!r}")
    compares = hasattr(metric, "same_classes")
    require(compares == metric.needs_reference, "same_classes must be there if needs_reference, and only then")


def finite_value(toy: ToyMetric) -> None:
    value = toy.value(toy.batches)
    is_table = getattr(toy.metric, "is_table", False)
    if toy.metric.better is not None:
        require(isinstance(value, float), f"the value must be a float, got {type(value).__name__}")
    require(isinstance(value, float) != is_table, f"is_table must be {not is_table} for {type(value).__name__} values")
    if isinstance(value, float):
        require(np.isfinite(value), f"the value must be finite, got {value}")
    numbers = np.concatenate([np.asarray(leaf, np.float64).reshape(-1) for leaf in _numbers(value)])
    require(np.isfinite(numbers).any(), "the table must hold a number")
    require(not np.isinf(numbers).any(), "the table must hold no infinity")


def sums_add_up(toy: ToyMetric) -> None:
    """The sums of batches of half the rows give the value of the whole ones."""
    if getattr(toy.metric, "compares_examples", False):
        raise NotApplicable("the metric compares the examples of a batch with each other (compares_examples)")
    half = toy_outputs.ROWS // 2
    parts = [cut(batch, rows) for batch in toy.batches for rows in (slice(0, half), slice(half, None))]
    _require_same(toy, parts, toy.batches, "value of smaller batches")


def same_batches_keep_the_value(toy: ToyMetric) -> None:
    if toy.metric.better is None and not getattr(toy.metric, "compares_examples", False):
        raise NotApplicable("the value is a table, which may hold counts")
    _require_same(toy, [*toy.batches, *toy.batches], toy.batches, "value of a split whose batches come twice")


def masked_rows_do_not_count(toy: ToyMetric) -> None:
    """Rows of nan that are masked leave the value of the others."""
    mask = (np.arange(toy_outputs.ROWS) < KEPT).astype(np.float32)
    masked = []
    for output, batch, reference in toy.batches:
        sides = [jax.tree.map(_spoil_last_rows, side) for side in (output, reference)]
        masked.append((sides[0], _with_mask(batch, mask), sides[1]))
    rest = [cut(batch, slice(0, KEPT)) for batch in toy.batches]
    _require_same(toy, masked, rest, "value with masked rows")


def invalid_predictions_do_not_count(toy: ToyMetric) -> None:
    """Logits of nan at predictions that are not valid leave the value."""
    spoiled = []
    for output, batch, reference in toy.batches:
        sides = [side.replace(logits=_spoil_invalid(side.logits, batch["valid"])) for side in (output, reference)]
        spoiled.append((sides[0], batch, sides[1]))
    _require_same(toy, spoiled, toy.batches, "value with other logits at predictions that are not valid")


def unlabelled_predictions_do_not_count(toy: ToyMetric) -> None:
    if not toy.metric.needs_labels:
        raise NotApplicable("needs_labels is False")
    hidden, cuts = [], []
    for output, batch, reference in toy.batches:
        label = np.concatenate([batch["label"][:KEPT], np.full_like(batch["label"][KEPT:], core.UNLABELLED)])
        hidden.append((output, {**batch, "label": label}, reference))
        cuts.append(cut((output, batch, reference), slice(0, KEPT)))
    _require_same(toy, hidden, cuts, "value with unlabelled rows")


def labels_are_not_read(toy: ToyMetric) -> None:
    if toy.metric.needs_labels:
        raise NotApplicable("needs_labels is True")
    unlabelled = [
        (output, {name: field for name, field in batch.items() if name != "label"}, reference)
        for output, batch, reference in toy.batches
    ]
    _require_same(toy, unlabelled, toy.batches, "value without labels")


def empty_split(toy: ToyMetric) -> None:
    """A number is nan; a table has zeros or None, no other numbers; no warning either way."""
    empty = [
        (output, _with_mask(batch, np.zeros(toy_outputs.ROWS, np.float32)), ref) for output, batch, ref in toy.batches
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = toy.value(empty)
    if isinstance(value, float):
        require(np.isnan(value), f"the value of an empty split must be nan, got {value}")
    elif isinstance(value, dict):
        of_examples = {name: part for name, part in value.items() if name != "edges"}
        _require_zero(of_examples)
    else:
        _require_zero(value)


def cut(batch: tuple[Output, Batch, Output], rows: slice) -> tuple[Output, Batch, Output]:
    """Returns some rows of a batch."""
    return jax.tree.map(lambda x: x[rows], batch)


def _spoil_invalid(logits: np.ndarray, valid: np.ndarray) -> np.ndarray:
    is_valid = valid.reshape(*valid.shape, *[1] * (logits.ndim - valid.ndim)) > 0
    return np.where(is_valid, logits, np.float32(np.nan))


def _spoil_last_rows(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x[:KEPT], np.full_like(x[KEPT:], np.nan)])


def _with_mask(batch: Batch, mask: np.ndarray) -> Batch:
    valid = batch["valid"] * mask.reshape(-1, *[1] * (batch["valid"].ndim - 1))
    return {**batch, "mask": mask, "valid": valid}


def _require_same(toy: ToyMetric, batches: Batches, expected: Batches, what: str) -> None:
    left, right = ([*_numbers(toy.value(split))] for split in (batches, expected))
    require_close(left, right, f"{what} ({toy.task})", rtol=1e-5, atol=1e-6)


def _require_zero(table: Any) -> None:
    for leaf in _numbers(table):
        require(np.isnan(leaf) or leaf == 0, f"a table of an empty split must hold zeros or None, got {leaf}")


def _numbers(value: Any) -> Iterator[float]:
    """Yields the numbers of a value or table, nan for None."""
    for leaf in jax.tree.leaves(value, is_leaf=lambda leaf: leaf is None):
        if leaf is None or not isinstance(leaf, str):
            yield np.nan if leaf is None else leaf


PROMISES = (
    Promise("its class attributes are declared", declared),
    Promise("the value is finite, and a number unless better is None", on_tasks(finite_value)),
    Promise("sums add up over batches", on_tasks(sums_add_up)),
    Promise("a split whose batches come twice has the same value", on_tasks(same_batches_keep_the_value)),
    Promise("masked rows do not count", on_tasks(masked_rows_do_not_count)),
    Promise("predictions that are not valid do not count", on_tasks(invalid_predictions_do_not_count)),
    Promise("unlabelled predictions do not count if needs_labels", on_tasks(unlabelled_predictions_do_not_count)),
    Promise("labels are not read unless needs_labels", on_tasks(labels_are_not_read)),
    Promise("an empty split gives nan or a table of zeros", on_tasks(empty_split)),
)
