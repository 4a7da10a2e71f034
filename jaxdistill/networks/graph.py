"""The graph of the networks of a stage: their order, their bindings, and one run through them."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp

from jaxdistill.config import toposort
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.networks.source import Borrows, BringsVariables, ForInference, Outputs, Source, TakesTurns


@dataclasses.dataclass(frozen=True)
class Precomputed(Source):
    """A source that returns a precomputed output for any batch, such as that of a teacher that lanes share."""

    output: Output

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        return self.output, {}


def in_order(networks: Mapping[str, Source]) -> dict[str, Source]:
    """Sorts networks so that each runs after those it needs, and binds each to them.

    Raises:
        UserError: for a name that does not exist, a circle, and a network that another cannot be bound to.
    """
    names = toposort.in_order("network", {name: network.needs for name, network in networks.items()})
    bound: dict[str, Source] = {}
    for name in names:
        try:
            bound[name] = networks[name].bind(bound)
        except UserError as error:
            raise UserError(f"networks.{name}.{error}") from error
    return bound


def dependencies(networks: Mapping[str, Source], names: Iterable[str]) -> dict[str, Source]:
    """Returns the networks of those names and all that they need, in order."""
    wanted = list(names)
    for name in wanted:
        wanted += [need for need in networks[name].needs if need not in wanted]
    return in_order({name: network for name, network in networks.items() if name in wanted})


def tpu_options(networks: Mapping[str, Source]) -> Mapping[str, str]:
    """Returns the options that all models declare for a TPU v5e (`runtime.xla_options`); none if they differ."""
    modules = [getattr(network, "module", None) for network in networks.values()]
    declared = [getattr(module, "tpu_options", {}) for module in modules if module is not None]
    return declared[0] if declared and all(options == declared[0] for options in declared) else {}


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Puts the name of a network before the message of a `UserError` from its call."""
    try:
        yield
    except UserError as error:
        raise UserError(f"networks.{name}: {error}") from error


def run(
    networks: Mapping[str, Source],
    variables: Mapping[str, Variables],
    batch: Batch,
    keys: Mapping[str, jax.Array] | None,
) -> tuple[dict[str, Output], dict[str, Variables]]:
    """Runs networks that are in order.

    Args:
        networks: from `in_order`.
        variables: of the networks, by name.
        batch: arrays by field.
        keys: for random numbers, by name; `None` for inference.

    Returns:
        The output of each network, and its updated collections of variables, by name.

    Raises:
        UserError: for a network that cannot be called, with its name.
    """
    outputs: dict[str, Output] = {}
    changed: dict[str, Variables] = {}
    in_turn = {name for network in networks.values() if isinstance(network, TakesTurns) for name in network.in_turn}
    for name, network in networks.items():
        inputs = variables_of(name, network, variables)
        call = functools.partial(network, batch=batch, outputs=outputs, key=keys[name] if keys else None)
        with naming(name), jax.named_scope(f"networks.{name}"):
            outputs[name], changed[name] = _call_in_turn(call, inputs, batch) if name in in_turn else call(inputs)
    return outputs, changed


def _call_in_turn(
    call: Callable[[Variables], tuple[Output, Variables]], variables: Variables, batch: Batch
) -> tuple[Output, Variables]:
    """Calls a network in a computation of its own, in which its variables are brought to the device and left there.

    That is a branch of a condition that always holds: XLA moves copies over an `optimization_barrier`, not into or out
    of a branch. It must not be a constant of the program, as a mask of training is, which is 1 throughout.
    """
    shapes = jax.eval_shape(call, variables)
    zeros = functools.partial(jax.tree.map, lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.cond(jnp.any(batch["index"] >= 0), call, lambda _: zeros(), variables)


def for_inference(network: Source, variables: Variables, batch: Batch) -> Variables:
    """Returns the variables that a frozen network is called with; `batch` may be shapes."""
    return network.for_inference(variables, batch) if isinstance(network, ForInference) else variables


def brought_variables(network: Source) -> Variables:
    """Returns the variables that a network brings, so that it needs none from elsewhere; often none."""
    return network.variables if isinstance(network, BringsVariables) else {}


def variables_of(name: str, network: Source, variables: Mapping[str, Variables]) -> Variables:
    """Returns the variables that a network is called with: its own, and `borrowed` ones of another network."""
    collections = variables.get(name, {})
    if isinstance(network, Borrows):
        return {**collections, "borrowed": variables[network.borrows]}
    return collections
