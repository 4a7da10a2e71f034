"""Initial states: every network and method initialised by one compiled program, on its devices."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdistill import core
from jaxdistill.core import Batch, Output, State, Term, Variables
from jaxdistill.errors import UserError
from jaxdistill.networks import Source, Starts, in_order, naming, variables_of
from jaxdistill.train.step import check_terms

Shapes = Mapping[str, jax.ShapeDtypeStruct]


def init_state(
    networks: Mapping[str, Source],
    terms: Mapping[str, Term],
    tx: optax.GradientTransformation,
    batch: Batch | Shapes,
    *,
    key: jax.Array,
    weights: Mapping[str, Variables] | None = None,
) -> tuple[State, dict[str, Variables]]:
    """Returns the first state and the frozen variables; pure, for `jit` and `eval_shape`.

    Args:
        networks: by name, each after those it needs.
        terms: by name.
        tx: the optimizer.
        batch: an augmented batch, arrays or shapes; methods read the shapes of their adapters off the networks'
            outputs for it.
        key: of the initial values, and of the run's own randomness.
        weights: `{network: variables}` of those that do not start at random.
    """
    return _init(networks, terms, tx, batch, key=key, weights=weights or {})[:2]


def init_shapes(
    networks: Mapping[str, Source],
    terms: Mapping[str, Term],
    tx: optax.GradientTransformation,
    batch: Batch | Shapes,
) -> tuple[State, dict[str, Variables], dict[str, Output]]:
    """Returns the shapes of what `init_state` returns, and of each network's output for the batch, by name.

    A network that was traced before for such a batch, in another stage or lane, is not traced again: tracing takes most
    of the time that a pipeline of many stages needs before its first step.
    """
    # The key is made inside: outside it would be computed, by a program of its own.
    return jax.eval_shape(
        lambda: _init(networks, terms, tx, batch, key=jax.random.key(0), weights={}, reuse_traces=True)
    )


def _init(
    networks: Mapping[str, Source],
    terms: Mapping[str, Term],
    tx: optax.GradientTransformation,
    batch: Batch | Shapes,
    *,
    key: jax.Array,
    weights: Mapping[str, Variables],
    reuse_traces: bool = False,
) -> tuple[State, dict[str, Variables], dict[str, Output]]:
    """Returns the first state, the frozen variables, and each network's output for zeros."""
    networks = in_order(networks)
    check_terms(networks, terms)
    zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in batch.items()}
    keys = core.fold_in(key, ["run", *networks, *terms])
    outputs, variables, parts = {}, {}, {}
    for name, network in networks.items():
        variables[name], outputs[name] = init_network(
            name,
            network,
            variables,
            outputs,
            batch=zeros,
            key=keys[name],
            weights=weights.get(name),
            reuse_traces=reuse_traces,
        )
        parts[name] = network.partition(variables[name])
    for name, term in terms.items():
        params, rest = core.split_params(_init_method(name, term, outputs, batch=zeros, key=keys[name]))
        parts[name] = params, rest, {}
    params, changing, frozen = ({n: part[i] for n, part in parts.items() if part[i]} for i in range(3))
    # Copies: arrays that a step may donate must not be the caller's, nor those that an average of weights starts from.
    params, changing = jax.tree.map(jnp.copy, (params, changing))
    return (
        State(step=jnp.int32(0), key=keys["run"], params=params, variables=changing, opt_state=tx.init(params)),
        frozen,
        outputs,
    )


def init_network(
    name: str,
    network: Source,
    variables: Mapping[str, Variables],
    outputs: Mapping[str, Output],
    *,
    batch: Batch,
    key: jax.Array,
    weights: Variables | None = None,
    reuse_traces: bool = False,
) -> tuple[Variables, Output]:
    """Returns a network's variables, and its output for a batch.

    Args:
        name: the network's.
        network: a source of outputs.
        variables, outputs: of the networks before it, by name.
        batch: the batch.
        key: of the initial values.
        weights: its variables if it does not start at random.
        reuse_traces: whether an equal network's trace for such a batch serves again.
    """
    init, start, call = _init_source, _start_source, _call_source
    if reuse_traces and _is_hashable(network):
        init, start, call = _init_source_traced, _start_source_traced, _call_source_traced
    needed = {need: outputs[need] for need in network.needs}
    complete: Variables = weights or {}
    with naming(name):
        if not weights or getattr(network, "new_head", False):
            of_needed = {need: variables[need] for need in network.needs}
            fresh = init(network, key=key, batch=batch, outputs=needed, variables=of_needed)
            complete = _complete(complete, fresh)
        if isinstance(network, Starts):
            complete = start(network, complete, fresh=not weights, batch=batch)
        arguments = variables_of(name, network, {**variables, name: complete})
        return complete, call(network, key=key, batch=batch, outputs=needed, variables=arguments)


def _complete(weights: Any, fresh: Any) -> Any:
    """Returns a tree of variables with fresh ones in the place of those that are missing."""
    if not isinstance(fresh, Mapping):
        return weights
    return {name: _complete(weights[name], x) if name in weights else x for name, x in fresh.items()}


def _init_source(
    network: Source, *, key: jax.Array, batch: Batch, outputs: Mapping[str, Output], variables: Mapping[str, Variables]
) -> Variables:
    return network.init(key, batch, outputs, variables)


def _start_source(network: Starts, weights: Variables, *, fresh: bool, batch: Batch) -> Variables:
    return network.start(weights, fresh=fresh, batch=batch)


def _call_source(
    network: Source, *, key: jax.Array, batch: Batch, outputs: Mapping[str, Output], variables: Variables
) -> Output:
    return network(variables, batch, outputs, key)[0]


# `jit` keeps the traces of networks that are equal, not only of those that are the same object.
_init_source_traced = jax.jit(_init_source, static_argnames="network")
_start_source_traced = jax.jit(_start_source, static_argnames=("network", "fresh"))
_call_source_traced = jax.jit(_call_source, static_argnames="network")


def _is_hashable(network: Source) -> bool:
    try:
        hash(network)
    except TypeError:
        return False
    return True


def _init_method(name: str, term: Term, outputs: Mapping[str, Output], *, batch: Batch, key: jax.Array) -> Variables:
    """Initialises a method; outputs that it cannot compare are a mistake of the config, found from shapes alone."""
    streams = {"params": key, "method": jax.random.fold_in(key, 1)}
    try:
        return term.method.init(streams, outputs[term.student], outputs.get(term.teacher or ""), batch)
    except UserError as error:
        raise UserError(f"term {name!r}: {error}") from error
    except (TypeError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"term {name!r}: method {type(term.method).__name__} cannot compare the outputs of {term.student!r} and"
            f" {term.teacher!r} ({type(error).__name__}: {reason}). Use a method for such predictions, or other layers."
        ) from error


def compiler_options() -> dict[str, Any]:
    """XLA's optimiser off for code that runs once: on a CPU the random numbers compile 3 to 8 times faster."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
