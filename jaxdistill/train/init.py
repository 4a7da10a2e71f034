"""The start of a run: every network and method initialised by one compiled program, born where it will live."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdistill import core
from jaxdistill.core import State, Term, Variables
from jaxdistill.errors import UserError
from jaxdistill.networks import Source, variables_of


def initial(
    networks: Mapping[str, Source],
    terms: Mapping[str, Term],
    tx: optax.GradientTransformation,
    batch: Mapping[str, jax.ShapeDtypeStruct],
    key: jax.Array,
    starts: Mapping[str, Variables],
) -> tuple[State, Mapping[str, Variables]]:
    """Returns the first state and the frozen variables; pure, for `jit` and `eval_shape`.

    Args:
        batch: shapes of an augmented batch; methods read the shapes of their adapters off what the networks
            say about it.
        starts: `{network: variables}` of those that do not start at random.
    """
    return _met(networks, terms, tx, batch, key, starts, _init, _say)[:2]


def shapes(
    networks: Mapping[str, Source],
    terms: Mapping[str, Term],
    tx: optax.GradientTransformation,
    batch: Mapping[str, jax.ShapeDtypeStruct],
) -> tuple[State, Mapping[str, Variables], Mapping[str, Any]]:
    """Returns the shapes of what `initial` returns, and of what each network says of the batch, by name.

    A network that was traced for such a batch before, in another stage or lane, is not traced again: that is what
    a pipeline of many stages would wait for before its first step.
    """
    key = jax.random.key(0)
    return jax.eval_shape(lambda: _met(networks, terms, tx, batch, key, {}, _once(_init), _once(_say)))


def _init(network: Source, *given) -> Variables:
    return network.init(*given)


def _say(network: Source, *given) -> tuple[Any, Variables]:
    return network(*given)


@functools.cache
def _once(method: Callable) -> Callable:
    """Keeps the traces of a function of a network, for those that can be compared with each other."""
    kept = jax.jit(method, static_argnums=0)

    def call(network, *given):
        try:
            hash(network)
        except TypeError:
            return method(network, *given)
        return kept(network, *given)

    return call


def _met(networks, terms, tx, batch, key, starts, init: Callable, say: Callable):
    """The first state, the frozen variables, and what each network says of zeros."""
    zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in batch.items()}
    keys = core.fold_in(key, ["run", *networks, *terms])
    known, outputs = {}, {}
    params, variables, frozen = {}, {}, {}

    def place(name, parts):
        # Copies: what a step may donate must be nobody else's, neither the caller's nor the EMA's leader's.
        own = [*jax.tree.map(jnp.copy, parts[:2]), parts[2]]
        for whole, part in zip((params, variables, frozen), own, strict=True):
            if part:
                whole[name] = part

    for name, network in networks.items():
        before = {other: outputs[other] for other in network.needs}
        theirs = {other: known[other] for other in network.needs}
        known[name] = starts.get(name) or init(network, keys[name], zeros, before, theirs)
        place(name, network.place(known[name]))
        outputs[name], _ = say(network, variables_of(name, network, known), zeros, before, keys[name])
    for name, term in terms.items():
        streams = {"params": keys[name], "method": jax.random.fold_in(keys[name], 1)}
        own = _started(name, term, streams, outputs[term.student], outputs.get(term.teacher), zeros)
        own_params, rest = core.split_params(own)
        place(name, (own_params, rest, {}))
    return State(jnp.int32(0), keys["run"], params, variables, tx.init(params)), frozen, outputs


def _started(name, term, streams, student, teacher, batch) -> Variables:
    """Initialises a method; what it cannot compare is a mistake of the config, found from shapes alone."""
    try:
        return term.method.init(streams, student, teacher, batch)
    except UserError as error:
        raise UserError(f"term {name!r}: {error}") from error
    except (TypeError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        said = str(error).strip().partition("\n")[0]
        raise UserError(
            f"term {name!r}: method {type(term.method).__name__} cannot compare the outputs of {term.student!r} and"
            f" {term.teacher!r} ({type(error).__name__}: {said}). Use a method for such predictions, or other layers."
        ) from error


def compiler_options() -> dict[str, Any]:
    """XLA's optimiser off for code that runs once: on a CPU the random numbers compile 3 to 8 times faster."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
