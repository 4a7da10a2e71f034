"""Evaluation: each example of a split once, in inference mode, with metrics as sums that add up.

evaluate_batch   (networks, variables, batch) -> sums and predictions, pure
evaluate         a compiled step over the batches of a split -> their total
finish           total -> numbers
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh

from jaxdistill import core
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.networks import Source, dependencies, run
from jaxdistill.runtime import xla_options
from jaxdistill.train import mesh as sharding
from jaxdistill.train import windows
from jaxdistill.train.parts import ROUTE, count_parts, sum_parts, take_part
from jaxdistill.train.prefetch import one_behind
from jaxdistill.train.step import INPUT

Pair = tuple[str, str]
"""`(network, reference)`, two networks that are compared."""

Weights = tuple[Mapping[str, Any], Mapping[str, Variables], Mapping[str, Variables]]
"""`(params, variables, frozen)` of the networks, as the step of training has them."""

METRICS = "metrics"
"""The part of an evaluation beside networks and input, in profiles and estimates."""

RESULT_BYTES = 64 << 20
"""Bytes that one dispatch may return for a resident split."""

ROW_FIELDS = ("label", "index", "mask", ROUTE)
"""Fields of a raw batch that an evaluation returns beside the predictions; examples without a class have no label."""


class Metric(Protocol):
    """`finish` of the added `sums` of all batches is the metric of the split."""

    needs_reference: bool

    def sums(self, output: Output, batch: Batch, reference: Output | None) -> Any: ...

    def finish(self, sums: Any) -> Any: ...


class Gather(Protocol):
    """Rows of each example that a split is measured by; `summarize` of all of them is computed once."""

    name: str

    def rows(self, output: Output, batch: Batch) -> Any: ...

    def summarize(self, rows: Any) -> Any: ...


@runtime_checkable
class GatheringMetric(Protocol):
    """A metric that no sums give: `finish` of the summary of `gather` is the metric of the split."""

    gather: Gather

    def finish(self, summary: Any) -> Any: ...


@struct.dataclass
class Measurement:
    """The sums and predictions of a batch, or of a whole split.

    Attributes:
        sums: `{network: {metric: sums}}`.
        pair_sums: `{(network, reference): {metric: sums}}`.
        predictions: `{network: {name: [..., examples]}}`, arrays of `Plan.predict` with the examples last.
        rows: `{network: {name of a gather: tree of [..., examples]}}`, its rows with the axis of the examples last.
        part_sums: `{(network, reference or ""): {metric: sums [values, ...]}}`, of the parts by `data.route`.
    """

    sums: Mapping[str, Mapping[str, Any]]
    pair_sums: Mapping[Pair, Mapping[str, Any]]
    predictions: Mapping[str, Mapping[str, Any]]
    rows: Mapping[str, Mapping[str, Any]] = struct.field(default_factory=dict)
    part_sums: Mapping[Pair, Mapping[str, Any]] = struct.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Label, index and number of its route of each example, int32 `[examples]`, in the order of the predictions.

    `truth` has fields of the examples that their predictions are compared with, `[examples, ...]`.
    """

    label: np.ndarray
    index: np.ndarray
    route: np.ndarray
    truth: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The numbers of one pass over a split.

    Attributes:
        values: `{network: {metric: number or table}}`, with those that compare it with the reference, if any.
        pairs: `{(network, reference): {metric: number or table}}`, of the pairs compared besides.
        predictions: `{network: {name: [examples, ...]}}`, of `Plan.predict`.
        label, index, truth: as in `Rows`.
        gathered: `{network: {name of a gather: tree of [examples, ...]}}`.
        parts: by value of `data.route`, the numbers of its examples, without predictions; none for other data.
    """

    values: Mapping[str, Mapping[str, Any]]
    pairs: Mapping[Pair, Mapping[str, Any]]
    predictions: Mapping[str, Mapping[str, np.ndarray]]
    label: np.ndarray
    index: np.ndarray
    truth: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    gathered: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    parts: Mapping[str, "Evaluation"] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """The networks that an evaluation measures, and the metrics that it measures them by.

    Attributes:
        networks: all of them, by name.
        names: those to be measured.
        metrics: by name.
        prepare: raw batch -> batch, without randomness.
        predict: output, prepared batch -> arrays `[batch, ...]` that are returned of each example, by name.
        reference: the network that all of them are compared with; "" for none.
        pairs: `(network, reference)`, those compared besides, in the same pass.
        window: height and width of the windows that images are cut into; () for whole images.
        routes: values of `data.route`, each a part that is measured besides.
    """

    networks: Mapping[str, Source]
    names: Sequence[str]
    metrics: Mapping[str, Metric | GatheringMetric]
    prepare: Callable[[Batch], Batch]
    predict: Callable[[Output, Batch], Mapping[str, jax.Array]] = lambda output, batch: {}
    reference: str = ""
    pairs: Sequence[Pair] = ()
    window: tuple[int, ...] = ()
    routes: Sequence[str] = ()

    @functools.cached_property
    def all_pairs(self) -> list[Pair]:
        """Each network with the reference, and the pairs compared besides."""
        return [*dict.fromkeys([*((name, self.reference) for name in self.names if self.reference), *self.pairs])]

    @functools.cached_property
    def running(self) -> dict[str, Source]:
        """The networks that have to run, in order."""
        paired = [name for pair in self.all_pairs for name in pair]
        return dependencies(self.networks, dict.fromkeys([*self.names, *paired]))

    def step(
        self,
        params: Mapping[str, Any],
        variables: Mapping[str, Variables],
        frozen: Mapping[str, Variables],
        batch: Batch,
    ) -> Measurement:
        """Measures one raw batch; pure."""
        with jax.named_scope(INPUT):
            prepared = self.prepare(batch)
        return evaluate_batch(
            self.running,
            core.merge_variables(params, variables, frozen),
            prepared,
            names=self.names,
            metrics=self.metrics,
            predict=self.predict,
            pairs=self.all_pairs,
            window=self.window,
            routes=len(self.routes),
        )

    def finish(self, total: Measurement, rows: Rows) -> Evaluation:
        """Returns the numbers of a split from its total, and those of its parts that have examples."""
        counts = count_parts(rows, len(self.routes)) if self.routes else ()
        numbers = {route: number for number, route in enumerate(self.routes) if counts[number]}
        of_parts = {route: self._finish(*take_part(total, rows, number)) for route, number in numbers.items()}
        return dataclasses.replace(self._finish(total, rows), parts=of_parts)

    def _finish(self, total: Measurement, rows: Rows) -> Evaluation:
        def finish_all(sums: Mapping[Any, Mapping[str, Any]]) -> dict[Any, dict[str, Any]]:
            return {who: {key: self.metrics[key].finish(x) for key, x in row.items()} for who, row in sums.items()}

        numbers, fidelity = finish_all(total.sums), finish_all(total.pair_sums)
        predictions, gathered = jax.tree.map(lambda x: np.moveaxis(x, -1, 0), (total.predictions, total.rows))
        for name, row in numbers.items():
            row |= finish_gathered(self.metrics, gathered.get(name, {})) | fidelity.get((name, self.reference), {})
        values = {name: {key: row[key] for key in self.metrics if key in row} for name, row in numbers.items()}
        pairs = {pair: fidelity[pair] for pair in self.pairs}
        about = {"label": rows.label, "index": rows.index, "truth": rows.truth, "gathered": gathered}
        return Evaluation(values, pairs, predictions, **about)


def finish_gathered(metrics: Mapping[str, Metric | GatheringMetric], gathered: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metrics of a network that its gathered rows give, each summary of which is computed once."""
    metrics = {key: metric for key, metric in metrics.items() if isinstance(metric, GatheringMetric)}
    gathers = {metric.gather.name: metric.gather for metric in metrics.values()}
    summaries = {name: gathers[name].summarize(rows) for name, rows in gathered.items()}
    return {key: metric.finish(summaries[metric.gather.name]) for key, metric in metrics.items()}


def run_outputs(
    networks: Mapping[str, Source],
    variables: Mapping[str, Variables],
    batch: Batch,
    *,
    window: tuple[int, ...],
    names: tuple[str, ...],
) -> Mapping[str, Output]:
    """Returns the outputs of networks for a prepared batch as an evaluation has them.

    Args:
        networks: those that run, in order.
        variables: `{network: {collection: tree}}`.
        batch: a prepared batch.
        window: as of `Plan`.
        names: the networks whose outputs are returned, at least.
    """

    def run_part(part: Batch) -> Mapping[str, Output]:
        return run(networks, variables, part, None)[0]

    return windows.in_windows(run_part, batch, (window[0], window[1]), names) if window else run_part(batch)


def evaluate_batch(
    networks: Mapping[str, Source],
    variables: Mapping[str, Variables],
    batch: Batch,
    *,
    names: Sequence[str],
    metrics: Mapping[str, Metric | GatheringMetric],
    predict: Callable[[Output, Batch], Mapping[str, jax.Array]],
    pairs: Sequence[Pair] = (),
    window: tuple[int, ...] = (),
    routes: int = 0,
) -> Measurement:
    """Measures networks on one prepared batch.

    Args:
        networks: those that run, in order.
        variables: `{network: {collection: tree}}`.
        batch: a prepared batch; rows whose mask is 0 do not count.
        names: the networks that are measured by metrics that need no reference.
        metrics: by name.
        predict: as of `Plan`.
        pairs: the networks that are compared by metrics that need a reference.
        window: as of `Plan`.
        routes: number of values of the field `route` whose examples are measured besides.
    """
    compared = dict.fromkeys([*names, *(name for pair in pairs for name in pair)])
    outputs = run_outputs(networks, variables, batch, window=window, names=tuple(compared))
    summed: dict[str, Metric] = {
        key: metric for key, metric in metrics.items() if not isinstance(metric, GatheringMetric)
    }
    gathers = {metric.gather.name: metric.gather for metric in metrics.values() if isinstance(metric, GatheringMetric)}
    alone = {key: metric for key, metric in summed.items() if not metric.needs_reference}
    fidelity = {key: metric for key, metric in summed.items() if metric.needs_reference}
    with jax.named_scope(METRICS):
        return Measurement(
            sums={name: {key: m.sums(outputs[name], batch, None) for key, m in alone.items()} for name in names},
            pair_sums={
                (name, reference): {
                    key: m.sums(outputs[name], batch, outputs[reference]) for key, m in fidelity.items()
                }
                for name, reference in pairs
            },
            predictions={name: _examples_last(predict(outputs[name], batch)) for name in names},
            rows={
                name: {key: _examples_last(gather.rows(outputs[name], batch)) for key, gather in gathers.items()}
                for name in names
            },
            part_sums={
                (name, reference): sum_parts(measured, outputs[name], batch, outputs.get(reference), count=routes)
                for measured, compared in ((alone, [(name, "") for name in names]), (fidelity, pairs))
                for name, reference in compared
                if routes
            },
        )


def _examples_last(rows: Any) -> Any:
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, -1), rows)


class Evaluator:
    """A compiled evaluation step and the devices that it runs on.

    Args:
        step: `(params, variables, frozen, raw batch) -> Measurement`, pure; `Plan.step`, or that of several runs with
            a leading axis in all that it returns.
        mesh: the devices.
        result_bytes: the bytes that one dispatch may return for a resident split.
        truth: fields of the raw batches that are returned beside the predictions.

    Attributes:
        compiled: `(params, variables, frozen, raw batches [batches, batch, ...]) -> (Measurement, fields)`, jitted.
    """

    def __init__(
        self,
        step: Callable[..., Measurement],
        mesh: Mesh,
        result_bytes: int = RESULT_BYTES,
        truth: Sequence[str] = (),
    ):
        self.mesh, self.result_bytes, self._truth = mesh, result_bytes, truth

        def measure(
            params: Mapping[str, Any],
            variables: Mapping[str, Variables],
            frozen: Mapping[str, Variables],
            batch: Batch,
        ) -> tuple[Measurement, dict[str, jax.Array]]:
            absent = jnp.full(batch["mask"].shape, core.UNLABELLED, jnp.int32)
            return step(params, variables, frozen, batch), {"label": absent, ROUTE: absent} | {
                key: batch[key] for key in dict.fromkeys([*ROW_FIELDS, *truth]) if key in batch
            }

        def measure_all(
            params: Mapping[str, Any],
            variables: Mapping[str, Variables],
            frozen: Mapping[str, Variables],
            batches: Batch,
        ) -> tuple[Measurement, dict[str, jax.Array]]:
            return jax.lax.map(lambda batch: measure(params, variables, frozen, batch), batches)

        self._measure = measure
        self.compiled = xla_options.jit(sharding.traced_on(mesh, measure_all), out_shardings=sharding.replicated(mesh))

    def stream(self, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[Any]:
        """Yields pieces of one batch each, put on the devices as they are used."""
        for batch in batches:
            yield sharding.put(self.mesh, {key: x[None] for key, x in batch.items()}, leading=1)

    def to_device(self, weights: Weights, batches: Iterable[Mapping[str, np.ndarray]]) -> list[Any]:
        """Puts a split on the devices, `[batches, batch, ...]`, to be measured in one dispatch.

        A split whose results would be larger than `result_bytes` becomes several pieces of one length, the last filled
        up with batches that are masked.
        """
        parts = [*batches]
        # All processes must find the same number of pieces, whatever rows each of them has.
        result = jax.eval_shape(self._measure, *weights, sharding.batch_structs(self.mesh, parts[0]))
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(result))
        pieces = math.ceil(len(parts) / max(1, self.result_bytes // size))
        length = math.ceil(len(parts) / pieces)
        empty = {**parts[-1], "mask": np.zeros_like(parts[-1]["mask"])}
        parts += [empty] * (-len(parts) % length)
        groups = [parts[start : start + length] for start in range(0, len(parts), length)]
        stacked = ({key: np.stack([part[key] for part in group]) for key in empty} for group in groups)
        return [sharding.put(self.mesh, piece, leading=1) for piece in stacked]

    def evaluate(self, weights: Weights, pieces: Iterable[Any]) -> tuple[Measurement, Rows]:
        """Adds up the pieces of a split, one dispatch each, in float64 on the host."""
        totals, examples, rows = None, [], []
        for result in one_behind(self.compiled(*weights, piece) for piece in pieces):
            measured, fields = jax.device_get(result)
            by_batch = measured.sums, measured.pair_sums, measured.part_sums
            sums = jax.tree.map(lambda x: np.asarray(x, np.float64).sum(0), by_batch)
            totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
            is_real = fields["mask"] > 0
            of_examples = (measured.predictions, measured.rows)
            examples.append(jax.tree.map(functools.partial(_select_rows, is_real=is_real), of_examples))
            rows.append({name: fields[name][is_real] for name in ("label", "index", ROUTE, *self._truth)})
        predictions, gathered = jax.tree.map(lambda *parts: np.concatenate(parts, -1), *examples)
        sums, pair_sums, part_sums = totals or ({}, {}, {})
        measurement = Measurement(sums, pair_sums, predictions, rows=gathered, part_sums=part_sums)
        joined = {name: np.concatenate([part[name] for part in rows]) for name in rows[0]}
        truth = {name: joined[name] for name in self._truth}
        return measurement, Rows(joined["label"], joined["index"], joined[ROUTE], truth=truth)


def _select_rows(x: np.ndarray, is_real: np.ndarray) -> np.ndarray:
    """Returns `[..., rows]` of `[batches, ..., batch]` without the rows that are padding, `[batches, batch]`."""
    return np.moveaxis(x, 0, -2)[..., is_real]


def evaluate(plan: Plan, mesh: Mesh, weights: Weights, batches: Iterable[Mapping[str, np.ndarray]]) -> Evaluation:
    """Measures the networks of one run on batches that are read as they are used."""
    evaluator = Evaluator(plan.step, mesh)
    return plan.finish(*evaluator.evaluate(weights, evaluator.stream(batches)))
