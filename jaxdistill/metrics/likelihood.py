"""Metrics of the likelihood of labels."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import Batch, Output
from jaxdistill.losses import divergence
from jaxdistill.metrics.metric import Metric, Ratio, labelled, map_predictions, total


@dataclasses.dataclass(frozen=True)
class NLL(Ratio):
    """The mean negative log-likelihood of the label, in nats, from float32 log-probabilities."""

    better = "min"

    def sums(self, output: Output, batch: Batch, reference: Output | None = None) -> dict[str, jax.Array]:
        def nats(logits: jax.Array, label: jax.Array) -> jax.Array:
            logs = divergence.log_probabilities(logits)
            # The id of padding may lie outside the vocabulary.
            return -jnp.take_along_axis(logs, jnp.maximum(label, 0)[..., None], -1, mode="clip")[..., 0]

        return total(map_predictions(nats, output, batch["label"]), labelled(batch))


@dataclasses.dataclass(frozen=True)
class Perplexity(NLL):
    """The exponential of the mean negative log-likelihood: the number of equally likely tokens of the same nll."""

    def finish(self, sums: Mapping[str, Any]) -> float:
        return float(np.exp(super().finish(sums)))


@dataclasses.dataclass(frozen=True)
class Bits(NLL):
    """The mean negative log-likelihood of the label, in bits: the length of an ideal code for it."""

    def finish(self, sums: Mapping[str, Any]) -> float:
        return super().finish(sums) / math.log(2)


METRICS: dict[str, Metric] = {
    "nll": NLL(),
    "perplexity": Perplexity(),
    "bits_per_byte": Bits(),
    "bits_per_token": Bits(),
}
