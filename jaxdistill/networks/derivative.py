"""A network with the derivatives of its logits by its input."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError, check_names, check_positive
from jaxdistill.networks.source import ForInference, Outputs, Source
from jaxdistill.networks.trained import RunsModuleOf

MODES = ("vjp", "jvp", "difference")


@dataclasses.dataclass(frozen=True)
class Derivative(RunsModuleOf):
    """Another network with the derivatives of its logits by its input as the tap `derivative`.

    `mode` is "vjp", the gradient of the label's logit, `[batch, *input]` (exact; 0 without a label); "jvp", the
    derivatives along random directions, `[batch, directions, classes]` (Czarnecki et al., "Sobolev Training for
    Neural Networks", NIPS 2017, https://arxiv.org/abs/1706.04859); or "difference", the same by central
    differences, `[f(x + s v) - f(x - s v)] / 2 s`, which need no second derivative. Directions are of length 1 and a
    function of the example, its view and the seed, so that a teacher's and a student's derivatives share them. They are
    the derivatives in inference mode, of running statistics and without dropout: with the batch's statistics an
    example's logits would depend on all the others' inputs.
    """

    mode: str = option("jvp", "way to differentiate: 'vjp', 'jvp' or 'difference'")
    directions: int = option(1, "number of directions of 'jvp' and 'difference'", least=1)
    step: float = option(1e-2, "step of 'difference'")
    seed: int = option(0, "seed of the directions")
    evaluable = False
    needs_fields = ("image",)

    def check(self) -> None:
        check_names("mode", [self.mode], MODES)
        check_positive("step", self.step)

    def bind(self, networks: Mapping[str, Source]) -> Source:
        base = networks[self.of]
        if self.mode == "difference" and isinstance(base, ForInference) and base.is_reduced_precision:
            raise UserError(
                f"mode must not be 'difference' of {self.of!r}, which runs in bfloat16 or int8: differences would be"
                " rounding noise. Take mode='jvp', or that network in float32"
            )
        return super().bind(networks)

    @property
    def reads_labels(self) -> bool:
        return self.mode == "vjp"

    @property
    def pairing(self) -> Mapping[str, Any]:
        return {name: getattr(self, name) for name in ("mode", "directions", "step", "seed")}

    @property
    def borrows(self) -> str:
        return self.of

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        def logits(x: jax.Array) -> jax.Array:
            inputs = {**batch, self.network.input: x}
            return core.dense(self.network(variables["borrowed"], inputs, outputs, None)[0].logits)

        x = core.precise(batch[self.network.input])
        output = outputs[self.of]
        if self.mode == "vjp":
            derivative = jax.vjp(logits, x)[1](_one_hot(batch["label"], core.dense(output.logits)))[0]
        else:
            derivative = jax.vmap(self._along(logits, x), 1, 1)(self.sample_directions(batch, x))
        return dataclasses.replace(output, taps=dict(output.taps) | {"derivative": derivative}), {}

    def _along(self, logits: Callable[[jax.Array], jax.Array], x: jax.Array) -> Callable[[jax.Array], jax.Array]:
        if self.mode == "jvp":
            forward = getattr(self.network.module, "forward_mode", True)
            return lambda v: jax.jvp(logits, (x,), (v,))[1] if forward else _derivative_in_reverse(logits, x, v)
        return lambda v: (logits(x + self.step * v) - logits(x - self.step * v)) / (2 * self.step)

    def sample_directions(self, batch: Batch, x: jax.Array) -> jax.Array:
        """Returns the directions of each example, `[batch, directions, *input]`, each of length 1."""

        def directions(index: jax.Array, view: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), index), view)
            v = jax.random.normal(key, (self.directions, math.prod(x.shape[1:])), x.dtype)
            return (v / jnp.linalg.norm(v, axis=-1, keepdims=True)).reshape(self.directions, *x.shape[1:])

        return jax.vmap(directions)(batch["index"], batch["view"])


def _derivative_in_reverse(function: Callable[[jax.Array], jax.Array], x: jax.Array, v: jax.Array) -> jax.Array:
    """Returns the derivative along `v` by two passes in reverse mode, for gradients without a forward mode."""
    output, gradient = jax.vjp(function, x)
    return jax.vjp(lambda u: gradient(u)[0], jnp.zeros_like(output))[1](v)[0]


def _one_hot(label: jax.Array, logits: jax.Array) -> jax.Array:
    if jnp.issubdtype(label.dtype, jnp.integer):
        return jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
    return label.astype(logits.dtype)  # mixed labels: the derivative of the mixture's logit
