"""A network that a stage derives from finished ones without training: its checks, and its checkpoint of step 1."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill.build.origins import save_featurizer, saved_metadata
from jaxdistill.build.stage import Stage
from jaxdistill.core import State, Variables, split_params
from jaxdistill.errors import UserError, check_names
from jaxdistill.networks import Trained
from jaxdistill.stages.merge_data import jit_replicated
from jaxdistill.train.checkpoint import Checkpoints


def check(stage: Stage, path: str, network: str, into: str) -> tuple[Trained, Trained]:
    """Returns the network with the weights and the one that is derived from it.

    Args:
        stage: the stage.
        path: the section that names them, for messages.
        network, into: their names.

    Raises:
        UserError: for a name that does not exist or is given twice, a network without a model, and weights of the
            derived one.
    """
    check_names(f"{path}.network", [network], stage.networks)
    check_names(f"{path}.into", [into], stage.networks)
    if into == network:
        raise UserError(f"{path}.into must be another network than {path}.network, got {into!r} for both. Name two")
    sources: list[Trained] = []
    for name in (network, into):
        source = stage.networks[name]
        if not isinstance(source, Trained):
            raise UserError(f"{path} must name networks with a model of their own, got {name!r}. Name another")
        sources.append(source)
    weights = stage.references.get(into, {}).get("weights")
    if weights:
        raise UserError(
            f"networks.{into}.weights must be '' in stage {stage.name!r}, since it gets those of {network!r}, got"
            f" {weights}. Set it to ''"
        )
    return sources[0], sources[1]


def save(stage: Stage, network: str, variables: Variables, folder: pathlib.Path) -> dict[str, Any]:
    """Saves the variables of a network as a checkpoint of step 1, and returns the metadata for `done.json`.

    Args:
        stage: the stage.
        network: the network's name.
        variables: its own.
        folder: the stage's own.
    """

    def make_state(variables: Variables) -> State:
        params, rest = split_params(variables)
        key = jax.random.key(stage.settings.seed)
        return State(jnp.int32(1), key, params={network: params}, variables={network: rest}, opt_state=())

    state = jit_replicated(stage, make_state)(variables)
    save_featurizer(stage, folder)
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(1, state, {}, saved_metadata(stage))
        checkpoints.wait()
    return {"step": 1, "kept": "last"}
