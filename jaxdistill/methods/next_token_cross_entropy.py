"""Cross-entropy with the next token: the task term of a language model.

Bengio, Ducharme, Vincent, Jauvin, "A Neural Probabilistic Language Model", JMLR 2003,
https://www.jmlr.org/papers/v3/bengio03a.html; label smoothing as in Szegedy et al., CVPR 2016,
https://arxiv.org/abs/1512.00567.

    loss = - sum_k [(1 - eps) 1(k = next token) + eps / K] log softmax(z)_k

one value per token, over a vocabulary of K. The labels are the batch's own tokens, shifted by one; padding, and where
there is an `answer_mask` all that is no answer, does not count.

Elsewhere: agree where there is no smoothing; DistillKit averages over micro-batches of unequal length as if they were
equal, and EasyDeL's distillation trainer compares logits with the token at the same place, which teaches a copy.
"""

import jax
import jax.numpy as jnp

from jaxdistill.errors import check_fraction
from jaxdistill.losses import divergence
from jaxdistill.modules.next_token import NextToken, next_token


def next_token_cross_entropy(logits: jax.Array, label: jax.Array, label_smoothing: float) -> jax.Array:
    """Returns `[*n]` nats for logits `[*n, vocabulary]` and labels int `[*n]`."""
    log_q = divergence.log_probabilities(logits)
    # What stands for padding may be no token at all: it is clipped, and its value does not count.
    own = jnp.take_along_axis(log_q, label[..., None], -1, mode="clip")[..., 0]
    return -(1 - label_smoothing) * own - label_smoothing * jnp.mean(log_q, -1)


class NextTokenCrossEntropy(NextToken):
    """`label_smoothing` is the share of the target that is spread over the whole vocabulary."""

    label_smoothing: float = 0.0
    needs_teacher = False

    def check(self):
        super().check()
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(self, student, teacher, batch):
        def loss(logits, _, label):
            return next_token_cross_entropy(logits, label, self.label_smoothing)

        return self.compare(loss, student, None, next_token(batch)[0])
