"""Where outputs come from: each mode of distillation is a choice among these sources.

A source is called as `source(variables, batch, outputs, key) -> (Output, changed)`, where `variables` are its
own, `outputs` holds what the networks before it said, and `changed` are the collections it has updated.
`key=None` asks for inference: statistics fixed, no dropout, nothing changed. Outputs are float32, whatever
dtype the network computes in, so that every loss and metric is.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import core, order
from jaxdistill.core import Batch, Output, Variables

Outputs = Mapping[str, Output]


@dataclasses.dataclass(frozen=True)
class Source:
    """What the step asks of a source; the defaults are those of one that owns nothing and learns nothing."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The networks that must run before this one."""
        return ()

    @property
    def reads(self) -> str | None:
        """The network whose variables this one uses; `None` for its own."""
        return None

    def init(self, key: jax.Array, batch: Batch, outputs: Outputs, known: Mapping[str, Variables]) -> Variables:
        """Returns fresh variables for inputs shaped like `batch`; `known` holds those of the networks before."""
        return {}

    def place(self, variables: Variables) -> tuple[Any, Variables, Variables]:
        """Splits variables into (params for the optimizer, variables the step changes, frozen ones)."""
        return {}, {}, {}

    def follow(self, own: Variables, known: Mapping[str, Variables], updates: jax.Array) -> Variables:
        """Returns this network's non-trained variables after optimizer update number `updates`."""
        return own

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        raise NotImplementedError


def _apply(module: nn.Module, variables: Variables, x: jax.Array, key: jax.Array | None):
    if key is None:
        output, changed = module.apply(variables, x, train=False), {}
    else:
        mutable = [name for name in variables if name != "params"]
        output, changed = module.apply(variables, x, train=True, rngs={"dropout": key}, mutable=mutable)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)), output), changed


@dataclasses.dataclass(frozen=True)
class Trained(Source):
    """A network that learns: its params are the optimizer's, its batch statistics are state."""

    module: nn.Module
    input: str = "image"

    def init(self, key, batch, outputs, known):
        return self.module.init(key, batch[self.input], train=False)

    def place(self, variables):
        params, rest = core.split(variables)
        return params, rest, {}

    def __call__(self, variables, batch, outputs, key):
        return _apply(self.module, variables, batch[self.input], key)


@dataclasses.dataclass(frozen=True)
class Frozen(Trained):
    """A network that only speaks: always in inference mode, never in the state, never in a checkpoint."""

    def place(self, variables):
        return {}, {}, variables

    def __call__(self, variables, batch, outputs, key):
        return _apply(self.module, variables, batch[self.input], None)


@dataclasses.dataclass(frozen=True)
class Ema(Source):
    """The exponential moving average of another network's variables, in inference mode.

    Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017, https://arxiv.org/abs/1703.01780:
    after update n, ours = d ours + (1 - d) theirs, with d = min(decay, 1 - 1 / (n + 1)) as in the authors'
    code, so that the average does not remember the initialisation. Batch statistics are averaged likewise
    (the authors' teacher keeps its own, in train mode).
    """

    leader: Trained
    of: str
    decay: float = 0.999

    @property
    def needs(self):
        return (self.of,)

    def init(self, key, batch, outputs, known):
        return known[self.of]

    def place(self, variables):
        return {}, variables, {}

    def follow(self, own, known, updates):
        decay = jnp.minimum(self.decay, 1 - 1 / (updates.astype(jnp.float32) + 1))
        leader = {name: known[self.of][name] for name in own}

        def average(mine, theirs):
            return mine + (1 - decay) * (theirs - mine) if jnp.issubdtype(mine.dtype, jnp.floating) else theirs

        return jax.tree.map(average, own, leader)

    def __call__(self, variables, batch, outputs, key):
        output, _ = self.leader(variables, batch, outputs, None)
        return output, {}


@dataclasses.dataclass(frozen=True)
class Ensemble(Source):
    """Several networks that speak as one; `average` is what is averaged: "logits" or "probabilities".

    Its taps are its members', named `member/tap`.
    """

    of: tuple[str, ...]
    average: str = "probabilities"

    @property
    def needs(self):
        return tuple(self.of)

    def __call__(self, variables, batch, outputs, key):
        logits = jnp.stack([outputs[name].logits for name in self.of])
        if self.average == "probabilities":
            logits = jax.nn.logsumexp(jax.nn.log_softmax(logits), 0) - jnp.log(len(self.of))
        else:
            logits = jnp.mean(logits, 0)
        taps = {f"{name}/{tap}": value for name in self.of for tap, value in outputs[name].taps.items()}
        return Output(logits, taps), {}


class Head(nn.Module):
    """A linear classifier on a tap: spatial or token axes are averaged first."""

    classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> Output:
        pooled = jnp.mean(x, axis=tuple(range(1, x.ndim - 1)))
        return Output(nn.Dense(self.classes, dtype=self.dtype, name="classifier")(pooled), {"pooled": pooled})


@dataclasses.dataclass(frozen=True)
class Exit(Source):
    """An early exit of another network: a classifier trained on one of its taps.

    Zhang et al., "Be Your Own Teacher", ICCV 2019, https://arxiv.org/abs/1905.08094. Gradients flow into the
    network it leaves. With `head=None` the tap itself is taken for logits.
    """

    of: str
    tap: str
    head: nn.Module | None

    @property
    def needs(self):
        return (self.of,)

    def init(self, key, batch, outputs, known):
        if self.head is None:
            outputs[self.of].tap(self.tap)
            return {}
        return self.head.init(key, outputs[self.of].tap(self.tap), train=False)

    def place(self, variables):
        params, rest = core.split(variables)
        return params, rest, {}

    def __call__(self, variables, batch, outputs, key):
        tap = outputs[self.of].tap(self.tap)
        return (Output(tap), {}) if self.head is None else _apply(self.head, variables, tap, key)


@dataclasses.dataclass(frozen=True)
class Again(Source):
    """Another network once more, on another input (a second view): the same weights, the same mode.

    Its batch statistics are computed but not kept: the first pass alone moves the running averages.
    """

    leader: Trained
    of: str
    input: str = "image2"

    @property
    def needs(self):
        return (self.of,)

    @property
    def reads(self):
        return self.of

    def __call__(self, variables, batch, outputs, key):
        output, _ = dataclasses.replace(self.leader, input=self.input)(variables, batch, outputs, key)
        return output, {}


def in_order(networks: Mapping[str, Source]) -> dict[str, Source]:
    """Sorts networks so that each runs after those it needs."""
    names = order.in_order("network", {name: network.needs for name, network in networks.items()})
    return {name: networks[name] for name in names}


def run(
    networks: Mapping[str, Source], known: Mapping[str, Variables], batch: Batch, keys: Mapping[str, jax.Array] | None
) -> tuple[dict[str, Output], dict[str, Variables]]:
    """Runs networks in order; `keys=None` for inference.

    Returns:
        What each said and what each changed, by name.
    """
    outputs, changed = {}, {}
    for name, network in networks.items():
        variables = known.get(network.reads or name, {})
        outputs[name], changed[name] = network(variables, batch, outputs, keys[name] if keys else None)
    return outputs, changed
