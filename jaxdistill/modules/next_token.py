"""Language models predict the next token: the one place where tokens, labels and masks are shifted against logits."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdistill.core import Batch, Method, Output, TopK
from jaxdistill.errors import UserError, check_least, check_positive
from jaxdistill.losses import chunked


def next_token(batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Returns what the logits at each position are to predict, and where that counts.

    Args:
        batch: `tokens` `[batch, length]`; `mask` `[batch]` of the examples; where they are there, `token_mask`
            (1 for tokens, 0 for padding) and `answer_mask` (1 for tokens that are to be learned), `[batch, length]`.

    Returns:
        label: int `[batch, length]`, the token after this one (0 after the last).
        valid: float32 `[batch, length]`, whether that one is a token of an example that counts.
    """
    return _shifted(batch["tokens"]), counted(batch)


def counted(batch: Batch, prefix: str = "") -> jax.Array:
    """Returns where the token after this one counts, float32 `[batch, length]`.

    Args:
        batch: as for `next_token`.
        prefix: of the names `tokens`, `token_mask` and `answer_mask`, of which one must be there: "teacher_" for those
            of a teacher that reads the same text in other tokens.
    """
    parts = [batch[prefix + name] for name in ("tokens", "token_mask", "answer_mask") if prefix + name in batch]
    counts = jnp.broadcast_to(batch["mask"][:, None], parts[0].shape).astype(jnp.float32)
    for mask in parts[1:] if prefix + "tokens" in batch else parts:
        counts = counts * mask.astype(jnp.float32)
    return _shifted(counts)


def _shifted(x: jax.Array) -> jax.Array:
    return jnp.concatenate([x[:, 1:], jnp.zeros_like(x[:, :1])], axis=1)


class NextToken(Method):
    """A method over the distributions of next tokens, `[batch, length, vocabulary]`: one value per position.

    `chunk` is how many positions it goes over at a time, 0 for all at once: with `Unembedding` outputs, or logits in
    bfloat16, nothing of `[batch * length, vocabulary]` is then ever there in float32 (`losses/chunked.py`).

    A batch without `tokens` has predictions of another kind, such as one per image: the examples' mask is theirs.

    Class attribute:
        takes_top_k: whether the teacher may say a `TopK`.
    """

    chunk: int = 0
    domain = "language"
    takes_top_k = False

    def check(self):
        check_least("chunk", self.chunk, 0)

    def valid(self, batch):
        return next_token(batch)[1] if "tokens" in batch else batch["mask"]

    def compare(
        self, loss: Callable[..., jax.Array], student: Output, teacher: Output | None, *arrays: jax.Array
    ) -> jax.Array:
        """Returns `loss(student's logits, teacher's, *arrays)`, `[*n]`, computed `chunk` predictions at a time.

        Args:
            loss: each prediction's own, `(logits [*n, vocabulary], logits or TopK or None, *arrays) -> [*n]`.
            student: its logits may be an `Unembedding`.
            teacher: the same; where the method takes it, a `TopK`.
            arrays: what else it needs of each prediction, `[*n, ...]`.

        Raises:
            UserError: for a `TopK` that the method has no use for.
        """
        theirs = None if teacher is None else teacher.logits
        if isinstance(student.logits, TopK) or (isinstance(theirs, TopK) and not self.takes_top_k):
            raise UserError(
                f"method {type(self).__name__} compares whole distributions, and one side says only its likeliest"
                " classes (TopK); let it say logits, or take method 'top_k' for such a teacher"
            )
        return chunked.compare(loss, student.logits, theirs, *arrays, chunk=self.chunk)


class TemperedNextToken(NextToken):
    """One whose logits are divided by `temperature`."""

    temperature: float = 1.0

    def check(self):
        super().check()
        check_positive("temperature", self.temperature)
