"""Runs of fresh networks that the tests of sources share."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

import toys
from jaxdistill import core, networks
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.networks import Source


def run_fresh(
    sources: Mapping[str, Source], batch: Batch, train: bool = False
) -> tuple[dict[str, Output], dict[str, Variables]]:
    """Returns the outputs and the variables of networks that were just initialised, by name."""
    state, frozen = toys.start(sources, {}, optax.sgd(0.1), batch)
    variables = core.merge_variables(state.params, state.variables, frozen)
    keys = core.fold_in(jax.random.key(0), sources) if train else None
    return networks.run(networks.in_order(sources), variables, batch, keys)[0], variables


def make_linear() -> Callable[[jax.Array], jax.Array]:
    """Returns a function of images with logits of three classes."""
    return lambda x: jnp.stack([jnp.sum(x, (1, 2, 3)) * factor for factor in (-1.0, 0.5, 2.0)], -1)
