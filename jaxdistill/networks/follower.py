"""The average of another network's weights over the steps."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdistill.networks.source import Source
from jaxdistill.networks.trained import Trained


@dataclasses.dataclass(frozen=True)
class Ema(Source):
    """The exponential moving average of another network's variables, in inference mode.

    Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017, https://arxiv.org/abs/1703.01780:
    after update n, ours = d ours + (1 - d) theirs, with d = min(decay, 1 - 1 / (n + 1)) as in the authors'
    code, so that the average does not remember the initialisation. Batch statistics are averaged likewise
    (the authors' teacher keeps its own, in train mode).
    """

    leader: Trained
    of: str
    decay: float = 0.999

    @property
    def needs(self):
        return (self.of,)

    def init(self, key, batch, outputs, known):
        return known[self.of]

    def place(self, variables):
        return {}, variables, {}

    def follow(self, own, known, updates):
        decay = jnp.minimum(self.decay, 1 - 1 / (updates.astype(jnp.float32) + 1))
        leader = {name: known[self.of][name] for name in own}

        def average(mine, theirs):
            return mine + (1 - decay) * (theirs - mine) if jnp.issubdtype(mine.dtype, jnp.floating) else theirs

        return jax.tree.map(average, own, leader)

    def __call__(self, variables, batch, outputs, key):
        output, _ = self.leader(variables, batch, outputs, None)
        return output, {}
