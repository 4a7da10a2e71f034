"""Derivatives of what another network says, by its input."""

import dataclasses
import math

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.networks.source import Source
from jaxdistill.networks.trained import Trained


@dataclasses.dataclass(frozen=True)
class Derivative(Source):
    """Another network once more, with the derivatives of its logits by its input as the tap `derivative`.

    `mode` is "vjp", the gradient of the label's logit, `[batch, *input]` (exact; 0 where there is no label); "jvp",
    the derivatives along random directions, `[batch, directions, classes]` (Czarnecki et al., "Sobolev Training for
    Neural Networks", NIPS 2017, https://arxiv.org/abs/1706.04859); or "difference", the same by central
    differences, `[f(x + s v) - f(x - s v)] / 2 s`, which need no second derivative. Directions are of length 1 and a
    function of the example, its view and the seed: a teacher's and a student's probe share them. The derivatives are
    those of inference, of running statistics and without dropout: by the batch's statistics an example's logits would
    depend on all the others' inputs.
    """

    leader: Trained
    of: str
    mode: str = "jvp"
    directions: int = 1
    step: float = 1e-2
    seed: int = 0
    needs_fields = ("image",)

    @property
    def needs(self):
        return (self.of,)

    @property
    def reads_labels(self):
        return self.mode == "vjp"

    @property
    def reads(self):
        return self.of

    def __call__(self, variables, batch, outputs, key):
        def say(x):
            return self.leader(variables, batch | {self.leader.input: x}, outputs, None)[0]

        x = core.precise(batch[self.leader.input])
        output = outputs[self.of]
        if self.mode == "vjp":
            derivative = jax.vjp(lambda x: say(x).logits, x)[1](_chosen(batch["label"], output.logits))[0]
        else:
            derivative = jax.vmap(self._along(say, x), 1, 1)(self._directions(batch, x))
        return output.replace(taps=dict(output.taps) | {"derivative": derivative}), {}

    def _along(self, say, x):
        if self.mode == "jvp":
            return lambda v: jax.jvp(lambda x: say(x).logits, (x,), (v,))[1]
        return lambda v: (say(x + self.step * v).logits - say(x - self.step * v).logits) / (2 * self.step)

    def _directions(self, batch, x):
        def one(index, view):
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(self.seed), index), view)
            v = jax.random.normal(key, (self.directions, math.prod(x.shape[1:])), x.dtype)
            return (v / jnp.linalg.norm(v, axis=-1, keepdims=True)).reshape(self.directions, *x.shape[1:])

        return jax.vmap(one)(batch["index"], batch["view"])


def _chosen(label: jax.Array, logits: jax.Array) -> jax.Array:
    if jnp.issubdtype(label.dtype, jnp.integer):
        return jax.nn.one_hot(label, logits.shape[-1], dtype=logits.dtype)
    return label.astype(logits.dtype)  # mixed labels: the derivative of what the mixture expects
