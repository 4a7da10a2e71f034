"""Times ways to compute the small 3x3 convolutions of CIFAR's residual networks, forward and backward.

    python benchmarks/studies/convolutions.py
    python benchmarks/studies/convolutions.py --shapes 32x16x16 8x64x64 --batch 128 --write convolutions.json

A way is a function that `flax.linen.Conv(conv_general_dilated=...)` could take instead of XLA's convolution. All must
give the same result and gradients before anything is timed. The reference of the ratios is Linen's own.
"""

import functools
import pathlib
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdistill.runtime import allocator, xla_options
from jaxdistill.runtime.timing import time_interleaved

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import results
import timing

NHWC = ("NHWC", "HWIO", "NHWC")


def plain(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
    """Convolves as `nn.Conv`: `[batch, height, width, in]` by `[3, 3, in, out]`, padded by 1."""
    return lax.conv_general_dilated(x, w, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=NHWC)


def nchw(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
    """Convolves in PyTorch's layout."""
    numbers = ("NCHW", "OIHW", "NCHW")
    x, w = x.transpose(0, 3, 1, 2), w.transpose(3, 2, 0, 1)
    y = lax.conv_general_dilated(x, w, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=numbers)
    return y.transpose(0, 2, 3, 1)


def shift(x: jax.Array, stride: int) -> list[jax.Array]:
    """Returns the nine views of the padded images, `[batch, height, width, in]` each."""
    size = [(side - 1) // stride + 1 for side in x.shape[1:3]]
    ends = [stride * (side - 1) + 1 for side in size]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return [padded[:, i : i + ends[0] : stride, j : j + ends[1] : stride] for i in range(3) for j in range(3)]


def nine_products(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
    """Sums nine matrix products, one for each position of the kernel."""
    return sum(jnp.matmul(view, w[n // 3, n % 3]) for n, view in enumerate(shift(x, stride)))


def patches(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
    """Computes one matrix product with all patches ("im2col")."""
    return jnp.matmul(jnp.concatenate(shift(x, stride), -1), w.reshape(-1, w.shape[-1]))


def blocked_patches(x: jax.Array, w: jax.Array, stride: int, parts: int = 8) -> jax.Array:
    """Computes `patches` an eighth of the batch at a time, so that they stay in the cache."""
    y = lax.map(lambda part: patches(part, w, stride), x.reshape(parts, -1, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def _with_gradient(of_weights: Callable[[jax.Array, jax.Array, int], jax.Array]) -> Callable[..., jax.Array]:
    """Returns XLA's convolution with another gradient by the weights."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
    def convolution(x: jax.Array, w: jax.Array, stride: int) -> jax.Array:
        return plain(x, w, stride)

    def forward(x: jax.Array, w: jax.Array, stride: int) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return plain(x, w, stride), (x, w)

    def backward(stride: int, residuals: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, w = residuals
        by_images = jax.linear_transpose(lambda x: plain(x, w, stride), x)(g)[0]
        return by_images, of_weights(x, g, stride).reshape(w.shape)

    convolution.defvjp(forward, backward)
    return convolution


def _by_patches(x: jax.Array, g: jax.Array, stride: int) -> jax.Array:
    return jnp.einsum("bhwc,bhwd->cd", jnp.concatenate(shift(x, stride), -1), g)


def _by_nine(x: jax.Array, g: jax.Array, stride: int) -> jax.Array:
    return jnp.stack([jnp.einsum("bhwc,bhwd->cd", view, g) for view in shift(x, stride)])


WAYS = {
    "nn.Conv": plain,
    "NCHW": nchw,
    "nine products": nine_products,
    "patches": patches,
    "patches, in eighths": blocked_patches,
    "weights' gradient by patches": _with_gradient(_by_patches),
    "weights' gradient by nine products": _with_gradient(_by_nine),
}
SHAPES = {
    "32x16x16": (32, 16, 16, 1),
    "32x16x32, stride 2": (32, 16, 32, 2),
    "16x32x32": (16, 32, 32, 1),
    "8x64x64": (8, 64, 64, 1),
}
"""name -> (side, channels in, channels out, stride)."""


Call = Callable[[], object]


def make_calls(
    way: Callable[..., jax.Array], x: jax.Array, w: jax.Array, g: jax.Array, *, stride: int
) -> tuple[Call, Call]:
    """Returns the forward pass, and both gradients, as calls that wait."""
    forward = xla_options.jit(lambda x, w: way(x, w, stride))
    backward = xla_options.jit(lambda x, w, g: jax.vjp(lambda x, w: way(x, w, stride), x, w)[1](g))
    return (lambda: jax.block_until_ready(forward(x, w)), lambda: jax.block_until_ready(backward(x, w, g)))


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=15)
    parser.add_argument("--shapes", nargs="+", choices=[*SHAPES], default=[*SHAPES])
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    tables, draw = {}, np.random.default_rng(0)
    for shape in given.shapes:
        side, inward, outward, stride = SHAPES[shape]
        x = jnp.asarray(draw.normal(size=(given.batch, side, side, inward)), jnp.float32)
        w = jnp.asarray(draw.normal(size=(3, 3, inward, outward)), jnp.float32)
        g = jnp.asarray(draw.normal(size=plain(x, w, stride).shape), jnp.float32)
        calls = {name: make_calls(way, x, w, g, stride=stride) for name, way in WAYS.items()}
        flops = 2 * 9 * g.size * inward
        for number, direction in enumerate(("forward", "backward")):
            timed = {name: both[number] for name, both in calls.items()}
            expected = jax.tree.leaves(timed["nn.Conv"]())
            for name, call in timed.items():
                for value, exact in zip(jax.tree.leaves(call()), expected, strict=True):
                    np.testing.assert_allclose(value, exact, rtol=1e-3, atol=1e-3 * np.abs(exact).max(), err_msg=name)
            seconds = time_interleaved(timed, given.rounds)
            rows = timing.compare(seconds, "nn.Conv", given.batch, flops * (1 + number))
            tables[f"{shape}, batch {given.batch}, {direction}"] = rows
    results.write(given.write, tables)


if __name__ == "__main__":
    main()
