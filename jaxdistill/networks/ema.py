"""Exponential moving average of a network, and the base class of networks that follow another."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError, check_between
from jaxdistill.networks.source import Outputs, Parts, Source
from jaxdistill.networks.trained import RunsModuleOf


@dataclasses.dataclass(frozen=True)
class Follower(RunsModuleOf):
    """Base class of networks in inference mode that start as `of` and follow it; no gradient moves them."""

    def bind(self, networks: Mapping[str, Source]) -> Source:
        if self.base is None and networks[self.of].frozen:
            raise UserError(f"of must be a network that learns, got {self.of!r}, which is frozen and never moves")
        return super().bind(networks)

    def init(self, key: jax.Array, batch: Batch, outputs: Outputs, variables: Mapping[str, Variables]) -> Variables:
        return variables[self.of]

    def partition(self, variables: Variables) -> Parts:
        return {}, variables, {}

    def follow(self, variables: Variables, base: Variables, updates: jax.Array) -> Variables:
        """Returns the new variables after optimizer update number `updates`; `base` are those of the network `of`."""
        target = {name: base[name] for name in variables}
        return jax.tree.map(lambda x, y: self.follow_array(x, y, updates), variables, target)

    def follow_array(self, x: jax.Array, base: jax.Array, updates: jax.Array) -> jax.Array:
        """Returns the new value of an array `x`, whose counterpart in the network `of` is `base`."""
        raise NotImplementedError

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        return self.network(variables, batch, outputs, None)[0], {}


@dataclasses.dataclass(frozen=True)
class Ema(Follower):
    """The exponential moving average of another network's variables, in inference mode.

    Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017, https://arxiv.org/abs/1703.01780:
    after update n, average = d average + (1 - d) base, with d = min(decay, 1 - 1 / (n + 1)) as in the authors'
    code, so that the average does not remember the initialisation. Batch statistics are averaged likewise
    (the authors' teacher keeps its own, in train mode).
    """

    decay: float = option(0.999, "weight of the average at each update")

    def check(self) -> None:
        check_between("decay", self.decay, 0, 1)

    def follow_array(self, x: jax.Array, base: jax.Array, updates: jax.Array) -> jax.Array:
        decay = jnp.minimum(self.decay, 1 - 1 / (updates.astype(jnp.float32) + 1))
        return x + (1 - decay) * (base - x) if jnp.issubdtype(x.dtype, jnp.floating) else base
