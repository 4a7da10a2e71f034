"""Several networks that speak as one."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.networks.source import Source


@dataclasses.dataclass(frozen=True)
class Ensemble(Source):
    """Several networks that speak as one; `average` is what is averaged: "logits" or "probabilities".

    Its taps are its members', named `member/tap`.
    """

    of: tuple[str, ...]
    average: str = "probabilities"

    @property
    def needs(self):
        return tuple(self.of)

    def __call__(self, variables, batch, outputs, key):
        logits = jnp.stack([outputs[name].logits for name in self.of])
        if self.average == "probabilities":
            logits = jax.nn.logsumexp(jax.nn.log_softmax(logits), 0) - jnp.log(len(self.of))
        else:
            logits = jnp.mean(logits, 0)
        taps = {f"{name}/{tap}": value for name in self.of for tap, value in outputs[name].taps.items()}
        return Output(logits, taps), {}
