"""How well a language model says next tokens, and how faithfully it says what another one does.

All are means over the tokens that count (`next_token`): those of the examples of the split, but for padding and for
each text's first. Logits are computed some tokens at a time (`losses/chunked.py`): those of a batch are never all there
in float32.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.losses import chunked, divergence
from jaxdistill.metrics.classification import ratio, total
from jaxdistill.modules.next_token import next_token

CHUNK = 1 << 24
"""Numbers of logits, tokens times vocabulary, that are there at once: 64 MiB."""


def over_tokens(loss: Callable[..., jax.Array], output: Output, batch: Batch, reference: Output | None = None):
    """Returns the sums of a mean over the tokens that count.

    Args:
        loss: `(logits [*n, vocabulary], the reference's or None, next tokens int [*n]) -> [*n]`.
    """
    label, valid = next_token(batch["tokens"], batch["mask"], batch.get("token_mask"), batch.get("answer_mask"))
    said = None if reference is None else reference.logits
    vocabulary = core.num_classes(output.logits)
    values = chunked.compare(loss, output.logits, said, label, chunk=max(1, CHUNK // vocabulary))
    return total(values, valid > 0)


def mean(sums) -> float:
    return float(ratio(sums["sum"], sums["count"]))


@dataclasses.dataclass(frozen=True)
class NLL:
    """The mean negative log-likelihood of the next token, in nats."""

    better, needs_reference, needs_labels = "min", False, False

    def sums(self, output, batch, reference=None):
        def loss(logits, _, label):
            own = jnp.take_along_axis(divergence.log_probabilities(logits), label[..., None], -1, mode="clip")
            return -own[..., 0]

        return over_tokens(loss, output, batch)

    def finish(self, sums) -> float:
        return mean(sums)


@dataclasses.dataclass(frozen=True)
class Perplexity(NLL):
    """The exponential of the mean negative log-likelihood: as many equally likely next tokens leave one as unsure."""

    def finish(self, sums) -> float:
        return float(np.exp(mean(sums)))


@dataclasses.dataclass(frozen=True)
class Bits(NLL):
    """The mean negative log-likelihood of the next token, in bits: what a perfect coder would need for it."""

    def finish(self, sums) -> float:
        return mean(sums) / math.log(2)


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The share of tokens that are the likeliest next one."""

    better, needs_reference, needs_labels = "max", False, False

    def sums(self, output, batch, reference=None):
        return over_tokens(lambda logits, _, label: 1.0 * (jnp.argmax(logits, -1) == label), output, batch)

    def finish(self, sums) -> float:
        return mean(sums)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The share of tokens at which both networks find the same next one likeliest, be it right or wrong."""

    better, needs_reference, needs_labels, same_classes = "max", True, False, True

    def sums(self, output, batch, reference):
        def same(logits, other, _):
            return 1.0 * (jnp.argmax(logits, -1) == jnp.argmax(other, -1))

        return over_tokens(same, output, batch, reference)

    def finish(self, sums) -> float:
        return mean(sums)


@dataclasses.dataclass(frozen=True)
class KL:
    """The mean of KL(reference || network) of the next token in nats, at temperature 1."""

    better, needs_reference, needs_labels, same_classes = "min", True, False, True

    def sums(self, output, batch, reference):
        return over_tokens(lambda logits, other, _: divergence.kl(other, logits), output, batch, reference)

    def finish(self, sums) -> float:
        return mean(sums)
