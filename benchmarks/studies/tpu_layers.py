"""A feed-forward layer of BERT-base on a TPU v5e in several forms: the compiler's estimate of time, and the digits.

    python benchmarks/studies/tpu_layers.py [--write docs/results/tpu_layers.json]

Two residual layers, norm, projection to 3,072, activation, projection to 768, of 16,384 tokens in bfloat16: forward
alone as in a teacher, and with the gradient by weights and inputs. Forms differ in GELU, by the error function as in
`jax.nn.gelu`, or by `models/gelu.py`, and in the variance of the norm, of differences from the mean or E[x^2] - E[x]^2.
`of peak` is that of the form with its gradient. Errors are the largest differences from the same layers in float32 on
this machine's CPU, for 256 tokens, as fractions of the largest value and of the largest gradient.
"""

import argparse
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import SingleDeviceSharding

from jaxdistill.estimate import chips, costs
from jaxdistill.models.gelu import gelu
from jaxdistill.runtime import topology
from jaxdistill.train import flops

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import results

TOKENS, FEW, WIDTH, HIDDEN = 16_384, 256, 768, 3_072

COLUMNS = {
    "name": "form",
    "forward": "forward ms",
    "gradient": "with gradient ms",
    "of peak": "of peak",
    "value_error": "error of values",
    "gradient_error": "error of gradients",
}

Activation = Callable[[jax.Array], jax.Array]


def by_error_function(x: jax.Array) -> jax.Array:
    return nn.gelu(x, approximate=False)


FORMS: dict[str, tuple[Activation, bool]] = {
    "GELU by erf, two passes of the norm": (by_error_function, False),
    "GELU of bfloat16, two passes of the norm": (gelu, False),
    "GELU of bfloat16, one pass of the norm": (gelu, True),
}
"""The activation, and whether the norm has the fast variance."""


class Layers(nn.Module):
    """Two feed-forward layers beside residual connections."""

    active: Activation
    fast: bool
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for _ in range(2):
            y = nn.LayerNorm(dtype=self.dtype, use_fast_variance=self.fast)(x)
            y = self.active(nn.Dense(HIDDEN, dtype=self.dtype)(y))
            x = x + nn.Dense(WIDTH, dtype=self.dtype)(y)
        return x


def estimate(layers: Layers, function: Callable[..., Any], chip: chips.Chip, device: Any) -> costs.Estimate:
    """Compiles a function of params and tokens for a device."""
    x = jax.ShapeDtypeStruct((TOKENS, WIDTH), jnp.bfloat16)
    shapes = jax.eval_shape(layers.init, jax.random.key(0), x), x
    place = SingleDeviceSharding(device)
    shapes = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), shapes)
    jitted = jax.jit(function)
    return costs.estimate(jitted.lower(*shapes).compile(), chip, flops.count(jitted, *shapes), 1)


def squares(layers: Layers) -> Callable[..., jax.Array]:
    return lambda params, x: jnp.mean(jnp.square(layers.apply(params, x).astype(jnp.float32)))


def measure_errors(active: Activation, fast: bool) -> tuple[float, float]:
    """Returns the errors of values and gradients in bfloat16, as fractions of the largest."""
    exact, layers = Layers(by_error_function, False, jnp.float32), Layers(active, fast, jnp.bfloat16)
    x = jax.random.normal(jax.random.key(1), (FEW, WIDTH), jnp.bfloat16)
    params = exact.init(jax.random.key(0), x)

    def outcome(layers: Layers, params: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        return layers.apply(params, x).astype(jnp.float32), jax.grad(squares(layers))(params, x)

    # Arguments, not constants of the program, whose products XLA would compute, slowly, when it compiles.
    compute = jax.jit(lambda params, x: (outcome(exact, params, x.astype(jnp.float32)), outcome(layers, params, x)))
    expected, got = compute(params, x)

    def error(left: Any, right: Any) -> float:
        pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
        return max(float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(a))) for a, b in pairs)

    return error(expected[0], got[0]), error(expected[1], got[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=pathlib.Path)
    given = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    target = topology.find("v5e:1x1")
    chip, rows = chips.find_chip(target), []
    for name, (active, fast) in FORMS.items():
        layers = Layers(active, fast, jnp.bfloat16)
        forward = estimate(layers, layers.apply, chip, target.devices[0])
        backward = estimate(layers, jax.value_and_grad(squares(layers), argnums=(0, 1)), chip, target.devices[0])
        row = {"name": name, "forward": 1e3 * forward.seconds, "gradient": 1e3 * backward.seconds}
        row |= {"of peak": backward.utilisation}
        rows.append(row | dict(zip(("value_error", "gradient_error"), measure_errors(active, fast), strict=True)))
        print(rows[-1], flush=True)
    results.write(given.write, {"": rows}, columns=COLUMNS)


if __name__ == "__main__":
    main()
