"""Rotary positions.

Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, https://arxiv.org/abs/2104.09864.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxdistill.errors import UserError

Heads = Float[Array, "batch length heads head_width"]
Angles = Float[Array, "_ length 1 half"]


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
    x: Heads,
    positions: Int[Array, "_ length"],
    base: float,
    scaling: tuple[float, ...] = (),
) -> Heads:
    """Rotates the pairs (j, j + head_width / 2) of each head by the position times `rotary_frequencies`.

    Equation 34. The paper pairs neighbours, as Meta's code does; Hugging Face's weights of Llama pair halves, as here:
    the columns of query and key are in another order. The angles are computed in float32.
    """
    frequency = rotary_frequencies(x.shape[-1], base, scaling)
    angle = positions.astype(jnp.float32)[..., None, None] * frequency.reshape(1, 1, 1, -1)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    if x.dtype == jnp.bfloat16:
        return _rotate_bfloat16(x, sin, cos)
    left, right = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([left * cos - right * sin, right * cos + left * sin], -1).astype(x.dtype)


@jax.custom_vjp
def _rotate_bfloat16(x: Heads, sin: Angles, cos: Angles) -> Heads:
    """Returns the same numbers, with halves that are swapped by a product with a permutation, which is exact.

    Slices of a head are parts of a vector register of a TPU: with them a rotation takes twice as long by libtpu's
    estimate. The gradient is the rotation back: one rounding, where that of a sum of two terms has three.
    """
    width = x.shape[-1]
    permutation = jnp.roll(jnp.eye(width, dtype=x.dtype), width // 2, axis=0)
    swapped = jnp.matmul(x, permutation, preferred_element_type=jnp.float32)
    wide_cos, wide_sin = jnp.concatenate([cos, cos], -1), jnp.concatenate([-sin, sin], -1)
    return (x.astype(jnp.float32) * wide_cos + swapped * wide_sin).astype(x.dtype)


def _rotate_forward(x: Heads, sin: Angles, cos: Angles) -> tuple[Heads, tuple[Angles, Angles]]:
    return _rotate_bfloat16(x, sin, cos), (sin, cos)


def _rotate_back(angles: tuple[Angles, Angles], gradient: Heads) -> tuple[Heads, Angles, Angles]:
    sin, cos = angles
    return _rotate_bfloat16(gradient, -sin, cos), jnp.zeros_like(sin), jnp.zeros_like(cos)


_rotate_bfloat16.defvjp(_rotate_forward, _rotate_back)
