"""Evaluation: every example of a split once, networks in inference mode, metrics as sums that add up."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.networks import Source, in_order, run
from jaxdistill.runtime import xla_options
from jaxdistill.train import mesh as sharding


class Metric(Protocol):
    """`finish` of the added `sums` of all batches is the metric of the split."""

    needs_reference: bool

    def sums(self, output: Output, batch: Batch, reference: Output | None) -> Any: ...

    def finish(self, sums: Any) -> Any: ...


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one pass over a split found.

    Attributes:
        values: `{network: {metric: number or table}}`, with those that compare it with the reference, if any.
        pairs: `{(network, reference): {metric: number or table}}`, of the pairs that were asked for.
        predictions: `{network: (class int32 [examples], its probability float32 [examples])}`; of networks that say
            one class of an example, and not one of each token.
        label, index: int32 `[examples]`.
    """

    values: Mapping[str, Mapping[str, Any]]
    pairs: Mapping[tuple[str, str], Mapping[str, Any]]
    predictions: Mapping[str, tuple[np.ndarray, np.ndarray]]
    label: np.ndarray
    index: np.ndarray


def closure(networks: Mapping[str, Source], names: Sequence[str]) -> dict[str, Source]:
    """The networks of those names and all that they need, in order."""
    wanted = list(names)
    for name in wanted:
        wanted += [other for other in networks[name].needs if other not in wanted]
    return in_order({name: network for name, network in networks.items() if name in wanted})


AT_ONCE = 64 << 20
"""Bytes that one dispatch may find, of a split that is held on the devices."""


class Evaluator:
    """Measures networks on a split.

    Args:
        networks: all of them, by name.
        names: those to be measured.
        metrics: by name.
        reference: the network that all of them are compared with; "" for none.
        prepare: raw batch -> batch, nothing random.
        mesh: where batches go.
        pairs: `(network, reference)`, those compared besides, in the same pass.
        lanes: how many runs side by side; called with the variables of all of them, it returns a list.
        abreast: makes a function of one run's `(params, variables, frozen, batch)` one of all lanes.
    """

    def __init__(
        self,
        networks,
        names,
        metrics: Mapping[str, Metric],
        reference: str,
        prepare,
        mesh: Mesh,
        pairs: Sequence[tuple[str, str]] = (),
        lanes: int = 0,
        abreast: Callable[[Callable], Callable] = lambda function: function,
    ):
        self.names, self.metrics, self.mesh = tuple(names), metrics, mesh
        self.reference, self.pairs, self.lanes = reference, tuple(pairs), lanes
        compared = dict.fromkeys([*((name, reference) for name in names if reference), *pairs])
        running = closure(networks, [*dict.fromkeys([*names, *(name for pair in compared for name in pair)])])

        def measure(params, variables, frozen, batch):
            batch = prepare(batch)
            outputs, _ = run(running, core.merge_variables(params, variables, frozen), batch, None)
            own = {key: metric for key, metric in metrics.items() if not metric.needs_reference}
            fidelity = {key: metric for key, metric in metrics.items() if metric.needs_reference}
            alone = {n: {key: m.sums(outputs[n], batch, None) for key, m in own.items()} for n in self.names}
            between = {
                (one, other): {key: m.sums(outputs[one], batch, outputs[other]) for key, m in fidelity.items()}
                for one, other in compared
            }
            sums, said = (alone, between), {}
            for name in self.names:
                if len(core.prediction_shape(outputs[name].logits)) > 1:
                    continue
                best = jnp.max(jax.nn.log_softmax(outputs[name].logits), -1)
                said[name] = (jnp.argmax(outputs[name].logits, -1).astype(jnp.int32), jnp.exp(best))
            return sums, said

        def named(params, variables, frozen, batch):
            sums, said = abreast(measure)(params, variables, frozen, batch)
            return sums, said, {key: batch[key] for key in ("label", "index", "mask")}

        def each(params, variables, frozen, batches):
            return jax.lax.map(lambda batch: named(params, variables, frozen, batch), batches)

        self._one, self._measure = named, xla_options.jit(each, out_shardings=sharding.replicated(mesh))

    def __call__(self, params, variables, frozen, batches: Iterator[Mapping[str, np.ndarray]]):
        """Measures batches that are read as they are used."""
        pieces = ({key: x[None] for key, x in batch.items()} for batch in batches)
        return self.held(params, variables, frozen, (sharding.put(self.mesh, piece, leading=1) for piece in pieces))

    def hold(self, params, variables, frozen, batches: Iterator[Mapping[str, np.ndarray]]) -> list[Any]:
        """Puts a split on the devices, `[batches, batch, ...]`, to be measured by `held` in one dispatch.

        Where what is found in all batches would be larger than `AT_ONCE`, it is several pieces of one length, the last
        filled up with batches that are masked.
        """
        parts = [*batches]
        said = jax.eval_shape(self._one, params, variables, frozen, parts[0])
        size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(said))
        pieces = math.ceil(len(parts) / max(1, AT_ONCE // size))
        length = math.ceil(len(parts) / pieces)
        empty = parts[-1] | {"mask": np.zeros_like(parts[-1]["mask"])}
        parts += [empty] * (-len(parts) % length)
        runs = [parts[start : start + length] for start in range(0, len(parts), length)]
        stacked = ({key: np.stack([part[key] for part in run]) for key in empty} for run in runs)
        return [sharding.put(self.mesh, piece, leading=1) for piece in stacked]

    def held(self, params, variables, frozen, pieces: Iterable[Any]):
        """Measures pieces of a split that are on the devices, a dispatch for each.

        Returns the `Evaluation` of one pass, in lanes a list of them.
        """
        total, rows = None, []
        for found in _one_late(self._measure(params, variables, frozen, piece) for piece in pieces):
            sums, said, about = jax.device_get(found)
            sums = jax.tree.map(lambda x: np.asarray(x, np.float64).sum(0), sums)
            total = sums if total is None else jax.tree.map(np.add, total, sums)
            kept = about["mask"] > 0
            said = jax.tree.map(lambda x: np.moveaxis(x, 0, -2), said)  # lanes before batches
            rows.append(jax.tree.map(lambda x, kept=kept: x[..., kept], (said, about["label"], about["index"])))
        said, label, index = jax.tree.map(lambda *parts: np.concatenate(parts, -1), *rows)
        if not self.lanes:
            return self._told(total, said, label, index)
        each = (jax.tree.map(lambda x, lane=lane: x[lane], (total, said)) for lane in range(self.lanes))
        return [self._told(*own, label, index) for own in each]

    def _told(self, total, said, label, index) -> Evaluation:
        values, compared = (
            {who: {key: self.metrics[key].finish(sums) for key, sums in found.items()} for who, found in part.items()}
            for part in total
        )
        values = {name: found | compared.get((name, self.reference), {}) for name, found in values.items()}
        return Evaluation(values, {pair: compared[pair] for pair in self.pairs}, said, label, index)


def _one_late(found: Iterator[Any]) -> Iterator[Any]:
    """Yields each when the next is under way, so that the device never waits for the host."""
    before = next(found)
    for one in found:
        yield before
        before = one
    yield before
