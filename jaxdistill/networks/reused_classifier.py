"""A student read by its teacher's classifier."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.modules import adapters
from jaxdistill.networks.source import Source, apply_module


@dataclasses.dataclass(frozen=True)
class ReusedClassifier(Source):
    """A student read by its teacher's classifier: a projector on a tap, then the head that the teacher has.

    Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
    https://arxiv.org/abs/2203.14001. `projector` makes a module from the channels of the teacher's tap; it maps the
    student's tap to the size of the teacher's. The head is the layer `head` of the teacher, as every model here has
    one on what it has pooled; no gradient moves it. Taps: `projected`, of the shape of the teacher's tap, and
    `pooled`.
    """

    of: str
    tap: str
    teacher: str
    teacher_tap: str
    projector: Callable[[int], nn.Module]
    learns = True
    needs_fields = ("image",)

    @property
    def needs(self):
        return (self.of, self.teacher)

    @property
    def borrows(self):
        return self.teacher

    def init(self, key, batch, outputs, known):
        module, x = self._projector(outputs)
        return module.init(key, x, train=False)

    def place(self, variables):
        params, rest = core.split_params(variables)
        return params, rest, {}

    def _projector(self, outputs):
        target = outputs[self.teacher].tap(self.teacher_tap)
        x = outputs[self.of].tap(self.tap)
        if x.ndim != target.ndim:
            raise UserError(
                f"tap {self.tap!r} of {self.of!r} is {list(x.shape)} and {self.teacher_tap!r} of {self.teacher!r}"
                f" {list(target.shape)}; name two maps or two pooled taps"
            )
        return self.projector(target.shape[-1]), adapters.fit(x, target.shape[1:3]) if x.ndim == 4 else x

    def __call__(self, variables, batch, outputs, key):
        head = variables["borrowed"].get("params", {}).get("head")
        if head is None or "kernel" not in head:
            raise UserError(f"network {self.teacher!r} has no layer named 'head', whose classifier could be reused")
        module, x = self._projector(outputs)
        own = {name: tree for name, tree in variables.items() if name != "borrowed"}
        projected, changed = apply_module(module, own, x, key)
        projected = core.precise(projected)
        pooled = jnp.mean(projected, axis=tuple(range(1, projected.ndim - 1)))
        head = jax.lax.stop_gradient(head)
        logits = pooled @ head["kernel"] + head["bias"][None]
        return Output(logits, {"projected": projected, "pooled": pooled}), changed
