"""Masks of whole words, for masked language models.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
NAACL 2019, https://arxiv.org/abs/1810.04805, section 3.1; whole words as in https://github.com/google-research/bert.
Each word is chosen with probability 0.15, independently, so that 15 % of the tokens are to be predicted on average;
their code draws words until a fixed number of tokens is reached. A chosen token becomes the mask token with probability
0.8, a random one with 0.1, and stays with 0.1.

All draws are a function of the seed, the example and its view, and not of the length that a batch is padded to.
"""

import zlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Shaped

from jaxdistill.core import UNLABELLED, Batch

CHOSEN, REPLACED, RANDOM = 0.15, 0.8, 0.1
"""Probabilities: of a word to be chosen, and of a chosen token to be masked or to become a random one."""

EVALUATION = 0
"""The seed, and the view, of an evaluation, whose masks are always the same."""


def mask_words(batch: Batch, *, seed: Int[Array, ""] | int, length: int, mask_token: int, vocabulary: int) -> Batch:
    """Returns a batch with some `tokens` replaced, and `targets`, `[batch, length]`: the original ones, -1 elsewhere.

    Args:
        batch: with `tokens`, and `word`, the position of the first token of a token's word, -1 if it is no word's.
        seed: of the draws.
        length: the largest number of tokens of a text.
        mask_token: the token that stands for a hidden one.
        vocabulary: the number of tokens.
    """
    # Other generators than threefry, which a flag may make the default, draw by the row under vmap.
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), zlib.crc32(b"masks of words"))

    def draw(
        index: Int[Array, ""], view: Int[Array, ""], tokens: Int[Array, " length"], word: Int[Array, " length"]
    ) -> tuple[Shaped[Array, " length"], Int[Array, " length"]]:
        keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(key, index), view), 3)
        by_word, by_token = (jax.random.uniform(one_key, (length,)) for one_key in keys[:2])
        random = jax.random.randint(keys[2], (length,), 0, vocabulary)[: len(tokens)]
        is_chosen = (word >= 0) & (by_word[jnp.maximum(word, 0)] < CHOSEN)
        kind = by_token[: len(tokens)]
        replaced = jnp.where(kind < REPLACED, mask_token, jnp.where(kind < REPLACED + RANDOM, random, tokens))
        return jnp.where(is_chosen, replaced, tokens), jnp.where(is_chosen, tokens, UNLABELLED)

    tokens, targets = jax.vmap(draw)(batch["index"], batch["view"], batch["tokens"], batch["word"])
    return {**batch, "tokens": tokens, "targets": targets}
