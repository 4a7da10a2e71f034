"""What a network is to the step, and how several are run.

A source is called as `source(variables, batch, outputs, key) -> (Output, changed)`, where `variables` are its
own, `outputs` holds what the networks before it said, and `changed` are the collections it has updated.
`key=None` asks for inference: statistics fixed, no dropout, nothing changed. Outputs are float32, whatever
dtype the network computes in, so that every loss and metric is; but for logits that are not computed yet.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax

from jaxdistill.config import toposort
from jaxdistill.core import Batch, Output, Variables

Outputs = Mapping[str, Output]


@dataclasses.dataclass(frozen=True)
class Source:
    """What the step asks of a source; the defaults are those of one that owns nothing and learns nothing.

    Class attributes:
        learns: whether it has params that the optimizer moves.
        frozen: whether its variables are read from elsewhere, never changed and never saved.
        differentiable: whether its answers have a gradient by the images of the batch.
        given: the variables that it brings along, of those that need none from elsewhere.
        reads_labels: whether what it says depends on the batch's labels.
        needs_fields: fields that an example must have for it.
    """

    learns = False
    frozen = False
    differentiable = True
    given = {}
    reads_labels = False
    needs_fields = ()

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

    def reduce(self, variables: Variables, batch: Batch) -> Variables:
        """Returns the variables that it is called with, made once of those it was given; `batch` may be shapes."""
        return variables

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


def apply(
    module: nn.Module, variables: Variables, x: jax.Array, key: jax.Array | None, **inputs: jax.Array
) -> tuple[Output, Variables]:
    """Applies a Linen module that returns an `Output`; returns it in float32, and the updated collections."""
    output, changed = apply_module(module, variables, x, key, **inputs)
    return output.in_float32(), changed


def apply_module(
    module: nn.Module, variables: Variables, x: jax.Array, key: jax.Array | None, **inputs: jax.Array
) -> tuple[Any, Variables]:
    """Applies a Linen module, in inference mode if `key` is `None`; returns its value and the updated collections."""
    if key is None:
        return module.apply(variables, x, train=False, **inputs), {}
    mutable = [name for name in variables if name != "params"]
    return module.apply(variables, x, train=True, rngs={"dropout": key}, mutable=mutable, **inputs)


def in_order(networks: Mapping[str, Source]) -> dict[str, Source]:
    """Sorts networks so that each runs after those it needs."""
    names = toposort.in_order("network", {name: network.needs for name, network in networks.items()})
    return {name: networks[name] for name in names}


def dependencies(networks: Mapping[str, Source], names: Iterable[str]) -> dict[str, Source]:
    """Returns the networks of those names and all that they need, in order."""
    wanted = list(names)
    for name in wanted:
        wanted += [need for need in networks[name].needs if need not in wanted]
    return in_order({name: network for name, network in networks.items() if name in wanted})


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
