"""A stale copy of a network."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdistill.config.parse import option
from jaxdistill.networks.ema import Follower


@dataclasses.dataclass(frozen=True)
class Delayed(Follower):
    """A stale copy of another network, renewed after every `every` optimizer updates, in inference mode.

    Anil et al., "Large Scale Distributed Neural Network Training through Online Distillation", ICLR 2018,
    https://arxiv.org/abs/1804.03235, section 2.1: peers learn from each other's old checkpoints, which are exchanged
    rarely. Until the first renewal the copy is the initialisation, so the paper's peers do not teach at first: give the
    term a weight that starts then.
    """

    every: int = option(50, "optimizer updates between two copies", least=1)

    def follow_array(self, x: jax.Array, base: jax.Array, updates: jax.Array) -> jax.Array:
        return jnp.where(updates % self.every == 0, base, x)
