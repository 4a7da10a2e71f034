"""Cross-entropy with labels.

Label smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
https://arxiv.org/abs/1512.00567, section 7. With next tokens as labels it trains a language model: Bengio, Ducharme,
Vincent, Jauvin, "A Neural Probabilistic Language Model", JMLR 2003, https://www.jmlr.org/papers/v3/bengio03a.html.

    loss = - sum_k [(1 - eps) y_k + eps / K] log softmax(z)_k

`y` is a class index, or a distribution over the classes, as mixup and cutmix make. Predictions without a label
(index -1, or a distribution that is 0 everywhere) do not count.

Elsewhere: without smoothing all agree. big_vision spreads it over the other classes alone. Of language models,
DistillKit averages over micro-batches of unequal length as if they were equal, and EasyDeL's distillation trainer
compares logits with the token at the same position, which teaches a copy.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxdistill.core import Batch, Output, Scalar
from jaxdistill.errors import check_fraction
from jaxdistill.losses import divergence
from jaxdistill.modules.logits_method import Labels, LogitsMethod


def one_hot(label: Labels, num_classes: int) -> Float[Array, "*n classes"]:
    """Writes labels as distributions: indices `[*n]` become one-hot, distributions are unchanged."""
    return jax.nn.one_hot(label, num_classes) if jnp.issubdtype(label.dtype, jnp.integer) else label


def cross_entropy(logits: Float[Array, "*n classes"], label: Labels, label_smoothing: Scalar) -> Float[Array, "*n"]:
    """Returns nats; of a label outside the classes, which must not count, any finite value."""
    if not jnp.issubdtype(label.dtype, jnp.integer):
        target = (1 - label_smoothing) * label + label_smoothing / logits.shape[-1]
        return divergence.cross_entropy(target, logits)
    return index_cross_entropy(logits, label, label_smoothing)


def index_cross_entropy(
    logits: Float[Array, "*n classes"], label: Int[Array, "*n"], label_smoothing: Scalar
) -> Float[Array, "*n"]:
    """Returns `cross_entropy` of indices, without an array of one-hot targets."""
    log_q = divergence.log_probabilities(logits)
    # The id of padding may lie outside the vocabulary.
    labelled = jnp.take_along_axis(log_q, label[..., None], -1, mode="clip")[..., 0]
    smoothing = jnp.asarray(label_smoothing, log_q.dtype)
    return -(1 - smoothing) * labelled - divergence.weighted(smoothing, jnp.mean(log_q, -1))


class CrossEntropy(LogitsMethod):
    """`label_smoothing` is the fraction of the target that is spread over all the classes."""

    label_smoothing: Scalar = 0.0
    needs_teacher = False
    needs_labels = True

    def check(self) -> None:
        super().check()
        check_fraction("label_smoothing", self.label_smoothing)

    def __call__(self, student: Output, teacher: Output | None, batch: Batch) -> Float[Array, "*n"]:
        def loss(logits: Float[Array, "*n classes"], _: None, label: Labels) -> Float[Array, "*n"]:
            return cross_entropy(logits, label, self.label_smoothing)

        return self.compare(loss, student, None, batch["label"], batch=batch)
