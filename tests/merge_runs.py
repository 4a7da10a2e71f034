"""The config of merged networks, built with changed settings."""

import functools
import pathlib

import jax
import jax.numpy as jnp

from jaxdistill.build import resolve
from jaxdistill.config import load

MERGED = str(pathlib.Path(__file__).parent / "configs" / "merged.py")


def settings(mode="", stage="merge", **merge):
    whole = load.read(f"{MERGED}:{mode}" if mode else MERGED)
    whole["stages"][stage]["merge"] |= merge
    if mode == "conv":
        whole["data"]["subset"]["count"] = 100
    return whole


def built(mode="", **merge):
    return resolve.stage("merge", load.stages(settings(mode, **merge))["merge"])


@functools.cache
def network(mode, seed):
    """Variables of the config's teacher with nothing left at a constant."""
    stage = built(mode)
    module = stage.networks["one"].module
    variables = jax.jit(lambda key: module.init(key, jnp.zeros((1, 8, 8, 1))))(jax.random.key(seed))
    leaves, treedef = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(seed + 100), len(leaves))
    noise = [jax.random.uniform(key, x.shape, minval=-0.1, maxval=0.1) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, [x + n for x, n in zip(leaves, noise, strict=True)])
