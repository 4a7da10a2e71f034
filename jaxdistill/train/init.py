"""The start of a run: every network and method initialised by one compiled program, born where it will live."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxdistill import core
from jaxdistill.core import Batch, Output, State, Term, Variables
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

    Networks that only speak are reduced here to what they are called with.
    """
    zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in batch.items()}
    keys = core.fold_in(key, ["run", *networks, *terms])
    known, outputs = born(networks, zeros, keys, starts)
    params, variables, frozen = {}, {}, {}

    def place(name, parts):
        # Copies: what a step may donate must be nobody else's, neither the caller's nor the EMA's leader's.
        own = [*jax.tree.map(jnp.copy, parts[:2]), parts[2]]
        for whole, part in zip((params, variables, frozen), own, strict=True):
            if part:
                whole[name] = part

    for name, network in networks.items():
        place(name, network.place(network.reduce(known[name], zeros)))
    for name, term in terms.items():
        streams = {"params": keys[name], "method": jax.random.fold_in(keys[name], 1)}
        own = _started(name, term, streams, outputs[term.student], outputs.get(term.teacher), zeros)
        own_params, rest = core.split(own)
        place(name, (own_params, rest, {}))
    state = State(jnp.int32(0), keys["run"], params, variables, tx.init(params))
    return state, frozen


def born(networks: Mapping[str, Source], batch: Batch, keys: Mapping[str, jax.Array], starts: Mapping[str, Variables]):
    """Returns each network's variables, from `starts` or fresh, and what it says of a batch."""
    known: dict[str, Variables] = {}
    outputs: dict[str, Output] = {}
    for name, network in networks.items():
        known[name] = starts.get(name) or network.init(keys[name], batch, outputs, known)
        outputs[name], _ = network(variables_of(name, network, known), batch, outputs, keys[name])
    return known, outputs


def _started(name, term, streams, student, teacher, batch) -> Variables:
    """Initialises a method; what it cannot compare is a mistake of the config, found from shapes alone."""
    try:
        return term.method.init(streams, student, teacher, batch)
    except UserError as error:
        raise UserError(f"term {name!r}: {error}") from error
    except (TypeError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        said = str(error).strip().partition("\n")[0]
        raise UserError(
            f"term {name!r}: method {type(term.method).__name__} is of the domain {term.method.domain!r} and cannot"
            f" compare what {term.student!r} and {term.teacher!r} say here ({type(error).__name__}: {said}); take a"
            " method of this data's domain, or name other layers"
        ) from error


def compiler_options() -> dict[str, Any]:
    """XLA's optimiser off for code that runs once: on a CPU the random numbers compile 3 to 8 times faster."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}
