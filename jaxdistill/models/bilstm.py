"""Bidirectional LSTMs for texts."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxdistill.core import Output
from jaxdistill.errors import check_fraction, check_least
from jaxdistill.models import transformer


class BiLSTM(nn.Module):
    """Embeddings, LSTMs in both directions, a fully connected layer with ReLU and a linear classifier.

    Hochreiter, Schmidhuber, "Long Short-Term Memory", 1997; as a student of BERT: Tang, Lu, Liu, Mou, Vechtomova, Lin,
    "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks", 2019, https://arxiv.org/abs/1903.12136,
    section 3.1, whose classifier reads the last states of both directions. The state passes over padding unchanged, so
    that padding on either side changes nothing. Biases of the forget gate start at 1 (Jozefowicz et al., ICML 2015),
    recurrent weights orthogonal, embeddings from a normal distribution of spread 0.02.

    Its inputs are `tokens` int `[batch, length]` and `token_mask` `[batch, length]`, above 0 for tokens.

    Taps, for l tokens:
        embed: `[batch, l, embed_width]`, 0 for padding.
        block0 .. block{layers-1}: `[batch, l, 2 width]`, states of each layer, forward then backward, 0 for padding.
        final: `[batch, l, 2 width]`, the last of these.
        states: `[batch, 2 width]`, the last state of either direction of the last layer.
        pooled: `[batch, hidden]`, float32, after ReLU; `states` if `hidden` is 0.

    Attributes:
        classes: number of logits.
        vocabulary: number of tokens.
        embed_width: of an embedding.
        layers: number of layers, each of two directions.
        width: of the state of a direction.
        hidden: width of the fully connected layer; 0 for none.
        dropout: rate, of the input of each layer and of the classifier's.
        dtype: of the computation; params, cells and the last layer are float32.
    """

    classes: int
    vocabulary: int = 30_522
    embed_width: int = 300
    layers: int = 1
    width: int = 150
    hidden: int = 200
    dropout: float = 0.0
    dtype: Any = jnp.float32

    inputs = ("tokens", "token_mask")
    axes = (("/embed/embedding$", ("vocabulary", "width")),)
    bidirectional = True

    def __post_init__(self) -> None:
        for name in ("vocabulary", "embed_width", "layers", "width"):
            check_least(name, getattr(self, name), 1)
        check_least("hidden", self.hidden, 0)
        check_fraction("dropout", self.dropout)
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch length"],
        train: bool = False,
        token_mask: Shaped[Array, "batch length"] | None = None,
    ) -> Output:
        taps = {}
        is_token = transformer.token_presence(tokens, token_mask)
        embed = nn.Embed(
            self.vocabulary, self.embed_width, embedding_init=transformer.initial, dtype=self.dtype, name="embed"
        )
        x = taps["embed"] = embed(transformer.mask_tokens(tokens, token_mask)) * is_token.astype(self.dtype)
        last = []
        for number in range(self.layers):
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
            states = []
            for direction in ("forward", "backward"):
                lstm = LSTM(self.width, direction == "backward", dtype=self.dtype, name=f"block{number}_{direction}")
                states.append(lstm(x, is_token))
            x = taps[f"block{number}"] = jnp.concatenate([sequence for sequence, _ in states], -1)
            last = [state for _, state in states]
        taps["final"], x = x, jnp.concatenate(last, -1)
        taps["states"] = x
        if self.hidden:
            kernel = nn.initializers.he_normal()
            x = nn.relu(nn.Dense(self.hidden, kernel_init=kernel, dtype=self.dtype, name="dense")(x))
        x = taps["pooled"] = x.astype(jnp.float32)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return Output(nn.Dense(self.classes, dtype=jnp.float32, name="head")(x), taps)


class LSTM(nn.Module):
    """One layer in one direction.

    Attributes:
        width: of the state.
        backward: whether it reads the last token first.
        dtype: of the computation; the cell is float32.
    """

    width: int
    backward: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length features"], is_token: Bool[Array, "batch length 1"]
    ) -> tuple[Float[Array, "batch length width"], Float[Array, "batch width"]]:
        """Returns the state at every token, 0 for padding, and the last one."""
        gates = nn.Dense(4 * self.width, bias_init=_forget_first, dtype=self.dtype, name="input")(x)
        recurrent = self.param("recurrent", nn.initializers.orthogonal(), (self.width, 4 * self.width), jnp.float32)
        kernel = recurrent.astype(self.dtype)

        def step(
            carry: tuple[jax.Array, jax.Array], inputs: tuple[jax.Array, jax.Array]
        ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
            state, cell = carry
            gate, present = inputs
            enter, forget, new, leave = jnp.split((gate + state @ kernel).astype(jnp.float32), 4, -1)
            new_cell = nn.sigmoid(forget) * cell + nn.sigmoid(enter) * jnp.tanh(new)
            new_state = (nn.sigmoid(leave) * jnp.tanh(new_cell)).astype(self.dtype)
            carry = jnp.where(present, new_state, state), jnp.where(present, new_cell, cell)
            return carry, jnp.where(present, new_state, 0)

        start = jnp.zeros((x.shape[0], self.width), self.dtype), jnp.zeros((x.shape[0], self.width), jnp.float32)
        by_time = jnp.swapaxes(gates, 0, 1), jnp.swapaxes(is_token, 0, 1)
        (last, _), states = jax.lax.scan(step, start, by_time, reverse=self.backward)
        return jnp.swapaxes(states, 0, 1), last


def _forget_first(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns biases of the four gates: 1 for the forget gate, the second, and 0 for the others."""
    return jnp.zeros(shape, dtype).reshape(4, -1).at[1].set(1).reshape(shape)
