"""Networks whose weights follow another network's: averaged over its steps, or copied now and then."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdistill.networks.source import Source
from jaxdistill.networks.trained import Trained


@dataclasses.dataclass(frozen=True)
class Follower(Source):
    """A network in inference mode that starts as `of` and follows it by `toward`; no gradient moves it."""

    leader: Trained
    of: str

    @property
    def needs(self):
        return (self.of,)

    def init(self, key, batch, outputs, known):
        return known[self.of]

    def place(self, variables):
        return {}, variables, {}

    def follow(self, own, known, updates):
        leader = {name: known[self.of][name] for name in own}
        return jax.tree.map(lambda mine, theirs: self.toward(mine, theirs, updates), own, leader)

    def toward(self, mine: jax.Array, theirs: jax.Array, updates: jax.Array) -> jax.Array:
        """Returns this network's array after optimizer update number `updates`."""
        raise NotImplementedError

    def __call__(self, variables, batch, outputs, key):
        output, _ = self.leader(variables, batch, outputs, None)
        return output, {}


@dataclasses.dataclass(frozen=True)
class Ema(Follower):
    """The exponential moving average of another network's variables, in inference mode.

    Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017, https://arxiv.org/abs/1703.01780:
    after update n, ours = d ours + (1 - d) theirs, with d = min(decay, 1 - 1 / (n + 1)) as in the authors'
    code, so that the average does not remember the initialisation. Batch statistics are averaged likewise
    (the authors' teacher keeps its own, in train mode).
    """

    decay: float = 0.999

    def toward(self, mine, theirs, updates):
        decay = jnp.minimum(self.decay, 1 - 1 / (updates.astype(jnp.float32) + 1))
        return mine + (1 - decay) * (theirs - mine) if jnp.issubdtype(mine.dtype, jnp.floating) else theirs


@dataclasses.dataclass(frozen=True)
class Delayed(Follower):
    """A stale copy of another network, renewed after every `every` optimizer updates, in inference mode.

    Anil et al., "Large Scale Distributed Neural Network Training through Online Distillation", ICLR 2018,
    https://arxiv.org/abs/1804.03235, section 2.1: peers learn from each other's old checkpoints, which are exchanged
    rarely. Until the first renewal the copy is the initialisation, so the paper's peers do not teach at first: give the
    term a weight that starts then.
    """

    every: int = 50

    def toward(self, mine, theirs, updates):
        return jnp.where(updates % self.every == 0, theirs, mine)
