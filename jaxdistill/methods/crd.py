"""Contrastive representation distillation (CRD).

Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020, https://arxiv.org/abs/1910.10699

    loss = L(s, bank_t) + L(t, bank_s)

    L(f, bank) = - log P_0 / (P_0 + K / N) - sum_{k > 0} log (K / N) / (P_k + K / N),    P_k = exp(f . bank_k / T) / Z

s and t are learned linear embeddings of norm 1. bank_0 is the other network's latest embedding of the same example,
bank_1 to bank_K are those of K others, drawn anew for each example, of N in all. Z makes the mean of P over the first
batch 1 / N, and stays. After its loss each example's row of both banks moves to the new embedding, by 1 - `momentum`,
and is made of norm 1 again. The weight is 0.8 in the paper.

The banks have a row for each training example. An index beyond them makes the loss NaN: set `examples` to the number of
training examples (the default is CIFAR's). The negatives are any other examples; the paper's loader for CIFAR draws
them from other classes. Its memory, if it draws them, may draw the example itself.

Elsewhere: RepDistiller, mdistiller and MMRazor agree; they add 1e-7 to the denominators (`eps` of `nce`), ours are in
log-space. torchdistill's own drawing of negatives fails by an undefined name.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdistill import core
from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_fraction, check_least, check_positive
from jaxdistill.losses import contrast, distance
from jaxdistill.modules import layer_mapping


def scores(
    features: Float[Array, "batch width"],
    bank: Float[Array, "examples width"],
    index: Int[Array, "batch candidates"],
    temperature: Scalar,
) -> Float[Array, "batch candidates"]:
    """Returns log P + log Z of the bank's rows at `index`; the first candidate is the example itself."""
    return contrast.similarities(features, bank, index) / temperature


def log_normalizer(
    scores: Float[Array, "batch candidates"], mask: Float[Array, " batch"], examples: int
) -> Float[Array, ""]:
    """Returns log Z, the log of `examples` times the mean of exp(scores) over the rows of the mask; no gradient."""
    valid = mask[:, None] > 0
    total = jax.nn.logsumexp(jnp.where(valid, scores, -jnp.inf))
    count = jnp.sum(mask > 0).astype(scores.dtype) * scores.shape[1]
    return jax.lax.stop_gradient(total - jnp.log(count) + math.log(examples))


def one_side(
    scores: Float[Array, "batch candidates"], log_z: Scalar, examples: int, eps: Scalar = 0.0
) -> Float[Array, " batch"]:
    """Returns L of one side for its scores."""
    log_p = scores - log_z
    return contrast.nce(log_p[:, 0], log_p[:, 1:], (scores.shape[1] - 1) / examples, eps)


class CRD(Method):
    """`width` of the embeddings; `negatives` is K, `examples` at least the number of training examples, N."""

    layers: str = "pooled"
    width: int = 128
    negatives: int = 16_384
    temperature: Scalar = 0.07
    momentum: Scalar = 0.5
    examples: int = 50_000
    same_classes = False
    needs_whole_batch = True

    def check(self) -> None:
        for name, least in (("width", 1), ("negatives", 1), ("examples", 2)):
            check_least(name, getattr(self, name), least)
        check_fraction("momentum", self.momentum)
        check_positive("temperature", self.temperature)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        return layer_mapping.sum_over_pairs(
            self, student, teacher, lambda s, t, name: self.compare_pair(s, t, name, batch)
        )

    def compare_pair(
        self,
        student: Float[Array, " batch *student_shape"],
        teacher: Float[Array, " batch *teacher_shape"],
        name: str,
        batch: Batch,
    ) -> Float[Array, " batch"]:
        """Compares the features of one pair of layers by the two banks of that pair."""
        index, mask = jnp.where(batch["mask"] > 0, batch["index"], 0), batch["mask"]
        embedded = [
            distance.normalize(nn.Dense(self.width, name=f"{name}_{side}")(x.reshape(x.shape[0], -1)))
            for side, x in (("student", student), ("teacher", teacher))
        ]
        banks = [self.variable("memory", f"{name}_{side}_bank", self.draw_bank) for side in ("student", "teacher")]
        stored = self.variable("memory", f"{name}_log_normalizer", lambda: jnp.full(2, -jnp.inf))

        keys = core.example_keys(self.make_rng("method"), batch)
        drawn = contrast.draw_others(keys, index, self.negatives, self.examples)
        columns = jnp.concatenate([index[:, None], drawn], 1)
        sides = [
            scores(x, bank.value, columns, self.temperature) for x, bank in zip(embedded, banks[::-1], strict=True)
        ]
        log_z = jnp.stack([log_normalizer(x, mask, self.examples) for x in sides]).astype(jnp.float32)
        log_z = jnp.where(jnp.isfinite(stored.value), stored.value, jnp.where(jnp.any(mask > 0), log_z, 0.0))
        if not self.is_initializing() and self.is_mutable_collection("memory"):
            stored.value = jnp.where(jnp.any(mask > 0), log_z, stored.value)
            for x, bank in zip(embedded, banks, strict=True):
                x = jax.lax.stop_gradient(x)
                bank.value = contrast.refresh(bank.value, x, index, mask, momentum=self.momentum)
        return sum(one_side(x, log_z[side], self.examples) for side, x in enumerate(sides))

    def draw_bank(self) -> Float[Array, "examples width"]:
        """Draws a bank of random rows of mean norm 1."""
        limit = (3 / self.width) ** 0.5
        return jax.random.uniform(self.make_rng("params"), (self.examples, self.width), minval=-limit, maxval=limit)
