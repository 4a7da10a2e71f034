"""Rotary positions.

Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, https://arxiv.org/abs/2104.09864.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdistill.errors import UserError


def check_scaling(scaling: tuple[float, ...]) -> None:
    """Raises `UserError` for numbers that are not those of `rotary_frequencies`."""
    if scaling and (len(scaling) != 4 or min(scaling) <= 0 or not scaling[1] < scaling[2]):
        raise UserError(
            "rotary_scaling must be four positive numbers (factor, low, high, length) with low < high, got"
            f" {tuple(scaling)}; Llama 3.1's are (8.0, 1.0, 4.0, 8192)"
        )


def rotary_frequencies(head_width: int, base: float, scaling: tuple[float, ...] = ()) -> np.ndarray:
    """Returns the frequencies `1 / base^(2 j / head_width)` of the pairs, float32, `[head_width / 2]`.

    Args:
        head_width: an even number.
        base: of the wavelengths.
        scaling: `(factor, low, high, length)` of Llama 3.1 (Grattafiori et al., "The Llama 3 Herd of Models", 2024,
            https://arxiv.org/abs/2407.21783, and its published code), or (). Waves longer than `length / low` become
            `factor` times as long, those shorter than `length / high` stay, and those between are interpolated.
    """
    # Rounded as PyTorch rounds: at position 10,000 a last bit of a frequency turns a pair by 0.001.
    exponent = np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width)
    frequency = 1 / np.asarray(base ** exponent.astype(np.float64), np.float32)
    if not scaling:
        return frequency
    factor, low, high, length = (np.float32(number) for number in scaling)
    fraction = np.clip((length * frequency / np.float32(2 * np.pi) - low) / (high - low), 0, 1)
    return (1 - fraction) * frequency / factor + fraction * frequency


def rotate(
    x: Float[Array, "batch length heads head_width"],
    positions: Int[Array, "_ length"],
    base: float,
    scaling: tuple[float, ...] = (),
) -> Float[Array, "batch length heads head_width"]:
    """Rotates the pairs (j, j + head_width / 2) of each head by the position times `rotary_frequencies`.

    Equation 34. The paper pairs neighbours, as Meta's code does; Hugging Face's weights of Llama pair halves, as here:
    the columns of query and key are in another order. The angles are computed in float32.
    """
    frequency = rotary_frequencies(x.shape[-1], base, scaling)
    angle = positions.astype(jnp.float32)[..., None, None] * frequency.reshape(1, 1, 1, -1)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1).astype(x.dtype)
