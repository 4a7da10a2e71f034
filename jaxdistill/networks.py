"""Where outputs come from: each mode of distillation is a choice among these sources.

A source is called as `source(variables, batch, outputs, key) -> (Output, changed)`, where `variables` are its
own, `outputs` holds what the networks before it said, and `changed` are the collections it has updated.
`key=None` asks for inference: statistics fixed, no dropout, nothing changed. Outputs are float32, whatever
dtype the network computes in, so that every loss and metric is.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import adapters, core, order
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError

Outputs = Mapping[str, Output]


@dataclasses.dataclass(frozen=True)
class Source:
    """What the step asks of a source; the defaults are those of one that owns nothing and learns nothing.

    Class attributes:
        learns: whether it has params that the optimizer moves.
        frozen: whether its variables are read from elsewhere, never changed and never saved.
    """

    learns = False
    frozen = False

    @property
    def needs(self) -> tuple[str, ...]:
        """The networks that must run before this one."""
        return ()

    @property
    def reads(self) -> str | None:
        """The network whose variables this one uses; `None` for its own."""
        return None

    @property
    def borrows(self) -> str | None:
        """The network whose variables this one uses beside its own, as the collection `borrowed`."""
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
    return jax.tree.map(lambda x: core.precise(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, output), changed


@dataclasses.dataclass(frozen=True)
class Trained(Source):
    """A network that learns: its params are the optimizer's, its batch statistics are state."""

    module: nn.Module
    input: str = "image"
    learns = True

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

    learns = False
    frozen = True

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


@dataclasses.dataclass(frozen=True)
class Exit(Source):
    """A head on a tap of another network: an early exit, a paraphraser of features, a projection of them.

    Zhang et al., "Be Your Own Teacher", ICCV 2019, https://arxiv.org/abs/1905.08094. Gradients flow into the
    network it leaves. With `head=None` the tap itself is taken for logits. A frozen one was trained, or fitted, in
    another stage.
    """

    of: str
    tap: str
    head: nn.Module | None
    frozen: bool = False

    @property
    def learns(self):
        return self.head is not None and not self.frozen

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
        return ({}, {}, variables) if self.frozen else (params, rest, {})

    def __call__(self, variables, batch, outputs, key):
        tap = outputs[self.of].tap(self.tap)
        if self.head is None:
            return Output(tap), {}
        output, changed = _apply(self.head, variables, tap, None if self.frozen else key)
        if getattr(self.head, "beside", False):
            whole = outputs[self.of]
            output = whole.replace(taps=dict(whole.taps) | dict(output.taps))
        return output, changed


@dataclasses.dataclass(frozen=True)
class Reuse(Source):
    """A student read by its teacher's classifier: a projector on a tap, then the head that the teacher has.

    Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
    https://arxiv.org/abs/2203.14001. `projector` makes a module from the channels of the teacher's tap; it maps the
    student's tap to the size of the teacher's. The head is the layer `head` of the teacher, as every model here has
    one on what it has pooled; no gradient moves it. Taps: `projected`, of the shape of the teacher's tap, and
    `pooled`.
    """

    of: str
    tap: str
    teacher: str
    teacher_tap: str
    projector: Callable[[int], nn.Module]
    learns = True

    @property
    def needs(self):
        return (self.of, self.teacher)

    @property
    def borrows(self):
        return self.teacher

    def init(self, key, batch, outputs, known):
        module, x = self._projector(outputs)
        return module.init(key, x, train=False)

    def place(self, variables):
        params, rest = core.split(variables)
        return params, rest, {}

    def _projector(self, outputs):
        target = outputs[self.teacher].tap(self.teacher_tap)
        x = outputs[self.of].tap(self.tap)
        if x.ndim != target.ndim:
            raise UserError(
                f"tap {self.tap!r} of {self.of!r} is {list(x.shape)} and {self.teacher_tap!r} of {self.teacher!r}"
                f" {list(target.shape)}; name two maps or two pooled taps"
            )
        return self.projector(target.shape[-1]), adapters.fit(x, target.shape[1:3]) if x.ndim == 4 else x

    def __call__(self, variables, batch, outputs, key):
        head = variables["borrowed"].get("params", {}).get("head")
        if head is None or "kernel" not in head:
            raise UserError(f"network {self.teacher!r} has no layer named 'head', whose classifier could be reused")
        module, x = self._projector(outputs)
        own = {name: tree for name, tree in variables.items() if name != "borrowed"}
        projected, changed = _apply(module, own, x, key)
        pooled = jnp.mean(projected, axis=tuple(range(1, projected.ndim - 1)))
        head = jax.lax.stop_gradient(head)
        logits = pooled @ head["kernel"] + head["bias"][None]
        return Output(logits, {"projected": projected, "pooled": pooled}), changed


@dataclasses.dataclass(frozen=True)
class Probe(Source):
    """Another network once more, with the derivatives of its logits by its input as the tap `derivative`.

    `how` is "vjp", the gradient of the label's logit, `[batch, *input]` (exact; 0 where there is no label); "jvp",
    the derivatives along random directions, `[batch, directions, classes]` (Czarnecki et al., "Sobolev Training for
    Neural Networks", NIPS 2017, https://arxiv.org/abs/1706.04859); or "difference", the same by central
    differences, `[f(x + s v) - f(x - s v)] / 2 s`, which need no second derivative. Directions are of length 1 and a
    function of the example, its view and the seed: a teacher's and a student's probe share them. The derivatives are
    those of inference, of running statistics and without dropout: by the batch's statistics an example's logits would
    depend on all the others' inputs.
    """

    leader: Trained
    of: str
    how: str = "jvp"
    directions: int = 1
    step: float = 1e-2
    seed: int = 0

    @property
    def needs(self):
        return (self.of,)

    @property
    def reads(self):
        return self.of

    def __call__(self, variables, batch, outputs, key):
        def say(x):
            return self.leader(variables, batch | {self.leader.input: x}, outputs, None)[0]

        x = core.precise(batch[self.leader.input])
        output = outputs[self.of]
        if self.how == "vjp":
            derivative = jax.vjp(lambda x: say(x).logits, x)[1](_chosen(batch["label"], output.logits))[0]
        else:
            derivative = jax.vmap(self._along(say, x), 1, 1)(self._directions(batch, x))
        return output.replace(taps=dict(output.taps) | {"derivative": derivative}), {}

    def _along(self, say, x):
        if self.how == "jvp":
            return lambda v: jax.jvp(lambda x: say(x).logits, (x,), (v,))[1]
        return lambda v: (say(x + self.step * v).logits - say(x - self.step * v).logits) / (2 * self.step)

    def _directions(self, batch, x):
        def one(index, view):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), index), view)
            v = jax.random.normal(key, (self.directions, math.prod(x.shape[1:])), x.dtype)
            return (v / jnp.linalg.norm(v, axis=-1, keepdims=True)).reshape(self.directions, *x.shape[1:])

        return jax.vmap(one)(batch["index"], batch["view"])


def _chosen(label: jax.Array, logits: jax.Array) -> jax.Array:
    if jnp.issubdtype(label.dtype, jnp.integer):
        return jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
    return label.astype(logits.dtype)  # mixed labels: the derivative of what the mixture expects


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
        variables = variables_of(name, network, known)
        outputs[name], changed[name] = network(variables, batch, outputs, keys[name] if keys else None)
    return outputs, changed


def variables_of(name: str, network: Source, known: Mapping[str, Variables]) -> Variables:
    """What a network is called with: its own variables, or those it reads, and those it borrows beside."""
    own = known.get(network.reads or name, {})
    return dict(own) | {"borrowed": known[network.borrows]} if network.borrows else own
