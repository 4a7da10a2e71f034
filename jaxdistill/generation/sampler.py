"""The sampler: a causal network writes after its prompts, a token at a time, with stored keys and values.

Prompts end in one column, so that the tokens of a step are of one column too; what stands before a shorter prompt is
padding, which counts in no position and is attended to by nothing. A token is drawn by a key of (key, example, sample,
number of the token), so that it does not depend on the rows beside it, the devices, or the padding, up to float
rounding of the logits.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxdistill import core
from jaxdistill.config.parse import option
from jaxdistill.core import Output
from jaxdistill.errors import check_least
from jaxdistill.generation.choice import Choice

Cache = Mapping[str, Any]
"""The collection `cache` of a model; its `column` is the next column to be filled."""

Predict = Callable[[Cache, Array, Array], tuple[Output, Cache]]
"""`(cache, tokens, token_mask) -> (output, cache)`; of an empty cache `tokens` are whole prompts, else one column."""

COLUMN = "column"


@dataclasses.dataclass(frozen=True)
class Sampling(Choice):
    """Number and distribution of the tokens that are written after a prompt."""

    tokens: int = option(64, "largest number of tokens that are written", least=1)
    stop: tuple[int, ...] = option((), "tokens after which a text ends; they are part of it")
    samples: int = option(1, "texts for each prompt", least=1)

    def check(self, path: str) -> None:
        super().check(path)
        check_least(f"{path}.tokens", self.tokens, 1)
        check_least(f"{path}.samples", self.samples, 1)


@struct.dataclass
class Written:
    """Prompts with what was written after them; rows of one prompt follow each other.

    Attributes:
        tokens: int `[texts, columns]`: padding, prompt, written tokens, and 0 after the end of a text.
        token_mask: `[texts, columns]`, whether a column holds a token.
        answer_mask: `[texts, columns]`, whether it holds one that was written.
        log_probs: `[texts, written]`, nats, of each written token under the network's own distribution; 0 after the
            end of a text.
    """

    tokens: Int[Array, "texts columns"]
    token_mask: Bool[Array, "texts columns"]
    answer_mask: Bool[Array, "texts columns"]
    log_probs: Float[Array, "texts written"]


def sample(
    predict: Predict,
    prompts: Int[Array, "prompts length"],
    prompt_mask: Shaped[Array, "prompts length"],
    *,
    examples: Int[Array, " prompts"],
    key: Array,
    sampling: Sampling,
) -> Written:
    """Writes after prompts; pure, for `jit`.

    Args:
        predict: of the network that writes.
        prompts: tokens, which end in the last column (`end_in_one_column`).
        prompt_mask: above 0 for tokens.
        examples: the index of each prompt, for its key.
        key: of this call.
        sampling: number and distribution of the tokens.
    """
    output, cache = predict({}, prompts, prompt_mask)
    last = core.dense(core.with_rows(output.logits, core.rows(output.logits)[:, -1]))
    count, width, new = len(prompts) * sampling.samples, prompts.shape[1], sampling.tokens
    repeat = lambda x, axis=0: jnp.repeat(x, sampling.samples, axis)  # noqa: E731
    cache = {name: _widen(repeat(x, x.ndim - 4), new) for name, x in flatten_dict(cache, sep="/").items()}
    row_keys = _row_keys(key, repeat(examples), jnp.tile(jnp.arange(sampling.samples), len(prompts)))
    start = _Progress(
        number=jnp.int32(0),
        cache=cache,
        logits=repeat(last),
        tokens=jnp.pad(repeat(prompts), ((0, 0), (0, new))),
        token_mask=jnp.pad(repeat(prompt_mask) > 0, ((0, 0), (0, new))),
        log_probs=jnp.zeros((count, new), jnp.float32),
        done=jnp.zeros(count, bool),
    )

    def write(now: _Progress) -> _Progress:
        keys = jax.vmap(jax.random.fold_in, in_axes=(0, None))(row_keys, now.number)
        tokens, log_probs = sampling.draw(now.logits, keys)
        column, open_ = width + now.number, ~now.done
        tokens = jnp.where(open_, tokens, 0)
        token_mask = _put(now.token_mask, open_, column)
        ended = jnp.isin(tokens, jnp.array(sampling.stop, jnp.int32)) if sampling.stop else jnp.zeros(count, bool)
        filled = unflatten_dict({**now.cache, COLUMN: column}, sep="/")
        output, cache = predict(filled, tokens[:, None], token_mask)
        return _Progress(
            number=now.number + 1,
            cache={name: x for name, x in flatten_dict(cache, sep="/").items() if name != COLUMN},
            logits=core.dense(output.logits)[:, 0],
            tokens=_put(now.tokens, tokens, column),
            token_mask=token_mask,
            log_probs=_put(now.log_probs, jnp.where(open_, log_probs, 0.0), now.number),
            done=now.done | ended,
        )

    def unfinished(now: _Progress) -> Bool[Array, ""]:
        return (now.number < new) & ~jnp.all(now.done)

    end = jax.lax.while_loop(unfinished, write, start)
    is_new = jnp.arange(width + new)[None] >= width
    return Written(end.tokens, end.token_mask, end.token_mask & is_new, end.log_probs)


@struct.dataclass
class _Progress:
    """The texts so far, and the logits of their next tokens."""

    number: Int[Array, ""]
    cache: dict[str, Array]
    logits: Float[Array, "texts classes"]
    tokens: Int[Array, "texts columns"]
    token_mask: Bool[Array, "texts columns"]
    log_probs: Float[Array, "texts written"]
    done: Bool[Array, " texts"]


def _row_keys(key: Array, examples: Int[Array, " texts"], samples: Int[Array, " texts"]) -> Array:
    def of_row(example: Array, number: Array) -> Array:
        return jax.random.fold_in(jax.random.fold_in(key, example), number)

    return jax.vmap(of_row)(examples, samples)


def _widen(x: Array, columns: int) -> Array:
    """Returns stored keys or values, `[..., batch, heads, columns, head_width]`, with room for further columns.

    They get a row for each head, `[..., batch * heads, columns, head_width]`, since products take these as they are:
    through a reshape XLA fuses the update of a column into each reader, and copies the whole in each step.
    """
    wide = jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, columns), (0, 0)])
    return wide.reshape(*wide.shape[:-4], -1, *wide.shape[-2:])


def _put(x: Shaped[Array, "texts columns"], values: Shaped[Array, " texts"], column: Array) -> Array:
    return jax.lax.dynamic_update_slice_in_dim(x, values[:, None].astype(x.dtype), column, axis=1)


def end_in_one_column(
    tokens: Int[Array, "batch length"], token_mask: Shaped[Array, "batch length"]
) -> tuple[Int[Array, "batch length"], Bool[Array, "batch length"]]:
    """Returns texts whose padding, wherever it was, stands before them."""
    order = jnp.argsort(token_mask > 0, axis=1, stable=True)
    moved = jnp.take_along_axis(tokens, order, 1), jnp.take_along_axis(token_mask > 0, order, 1)
    return jnp.where(moved[1], moved[0], 0), moved[1]
