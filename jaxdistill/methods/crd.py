"""Contrastive representation distillation: the student's embedding of an input is told from those of other inputs.

Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020, https://arxiv.org/abs/1910.10699

    loss = L(s, bank_t) + L(t, bank_s)

    L(f, bank) = - log P_0 / (P_0 + K / N) - sum_{k > 0} log (K / N) / (P_k + K / N),    P_k = exp(f . bank_k / T) / Z

s and t are learned linear embeddings of norm 1. bank_0 is the other network's embedding of the same example as it was
seen last, bank_1 to bank_K are those of K others, drawn anew for each example, of N in all. Z makes the mean of P over
the first batch 1 / N, and stays. After its loss each example's row of both banks moves to the new embedding, by
1 - `momentum`, and is made of norm 1 again. The weight is 0.8 in the paper.

The banks have a row for each training example. An index beyond them makes the loss not a number: set `examples` to the
number of training examples (the default is CIFAR's). The negatives are any other examples; the paper's loader for CIFAR
draws them from other classes. Its memory draws the example itself too, where it is left to draw.

Elsewhere: RepDistiller, mdistiller and MMRazor agree; they add 1e-7 to the denominators (`eps` of `nce`), ours are in
log-space. torchdistill's own drawing of negatives fails by an undefined name.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Method
from jaxdistill.errors import UserError, check_fraction, check_least
from jaxdistill.losses import contrast, distance
from jaxdistill.modules import layer_mapping


def scores(features: jax.Array, bank: jax.Array, index: jax.Array, temperature: float) -> jax.Array:
    """Returns log P + log Z, `[batch, 1 + k]`, for `[batch, width]`, `[examples, width]` and `[batch, 1 + k]`."""
    return contrast.similarities(features, bank, index) / temperature


def log_normalizer(found: jax.Array, mask: jax.Array, examples: int) -> jax.Array:
    """Returns log Z for `scores` of the rows of the mask: the log of their mean times `examples`; no gradient."""
    there = mask[:, None] > 0
    total = jax.nn.logsumexp(jnp.where(there, found, -jnp.inf))
    count = jnp.sum(mask > 0).astype(found.dtype) * found.shape[1]
    return jax.lax.stop_gradient(total - jnp.log(count) + math.log(examples))


def one_side(found: jax.Array, log_z: jax.Array, examples: int, eps: float = 0.0) -> jax.Array:
    """Returns L, `[batch]`, for `scores`, whose first column is the example itself."""
    log_p = found - log_z
    return contrast.nce(log_p[:, 0], log_p[:, 1:], (found.shape[1] - 1) / examples, eps)


class CRD(Method):
    """`width` of the embeddings; `negatives` is K, `examples` at least the number of training examples, N."""

    layers: str = "pooled"
    width: int = 128
    negatives: int = 16_384
    temperature: float = 0.07
    momentum: float = 0.5
    examples: int = 50_000
    same_classes = False
    needs_whole_batch = True

    def check(self):
        for name, least in (("width", 1), ("negatives", 1), ("examples", 2)):
            check_least(name, getattr(self, name), least)
        check_fraction("momentum", self.momentum)
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature={self.temperature} makes no sense; it is greater than 0 and finite")

    @nn.compact
    def __call__(self, student, teacher, batch):
        return layer_mapping.over(self, student, teacher, lambda own, other, name: self.pair(own, other, name, batch))

    def pair(self, student: jax.Array, teacher: jax.Array, name: str, batch: core.Batch) -> jax.Array:
        """Returns `[batch]` for features `[batch, ...]` of one pair of layers, which has banks of its own."""
        index, mask = jnp.where(batch["mask"] > 0, batch["index"], 0), batch["mask"]
        embedded = [
            distance.normalize(nn.Dense(self.width, name=f"{name}_{who}")(x.reshape(x.shape[0], -1)))
            for who, x in (("student", student), ("teacher", teacher))
        ]
        banks = [self.variable("memory", f"{name}_{who}_bank", self.start) for who in ("student", "teacher")]
        known = self.variable("memory", f"{name}_log_normalizer", lambda: jnp.full(2, -jnp.inf))

        keys = core.example_keys(self.make_rng("method"), batch)
        drawn = contrast.others(keys, index, self.negatives, self.examples)
        columns = jnp.concatenate([index[:, None], drawn], 1)
        found = [
            scores(x, bank.value, columns, self.temperature) for x, bank in zip(embedded, banks[::-1], strict=True)
        ]
        log_z = jnp.stack([log_normalizer(x, mask, self.examples) for x in found]).astype(jnp.float32)
        log_z = jnp.where(jnp.isfinite(known.value), known.value, jnp.where(jnp.any(mask > 0), log_z, 0.0))
        if not self.is_initializing() and self.is_mutable_collection("memory"):
            known.value = jnp.where(jnp.any(mask > 0), log_z, known.value)
            for x, bank in zip(embedded, banks, strict=True):
                x = jax.lax.stop_gradient(x)
                bank.value = contrast.refresh(bank.value, x, index, mask, self.momentum)
        return sum(one_side(x, log_z[side], self.examples) for side, x in enumerate(found))

    def start(self) -> jax.Array:
        """A bank of random rows, of norm 1 in the mean."""
        limit = (3 / self.width) ** 0.5
        return jax.random.uniform(self.make_rng("params"), (self.examples, self.width), minval=-limit, maxval=limit)
