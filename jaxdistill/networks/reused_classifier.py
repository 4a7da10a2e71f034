"""A student whose features are classified by its teacher's classifier."""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.modules import adapters
from jaxdistill.modules.heads import Projector
from jaxdistill.networks.options import NetworkRef, required
from jaxdistill.networks.source import Outputs, Parts, Source, apply_module


@dataclasses.dataclass(frozen=True)
class ReusedClassifier(Source):
    """A student whose features are classified by its teacher: a projector on a tap, then the teacher's head.

    Chen et al., "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
    https://arxiv.org/abs/2203.14001. The student's tap is mapped to the size of the teacher's. The head is the layer
    `head` of the teacher, which every model here has on its pooled features; no gradient moves it. Taps: `projected`,
    of the shape of the teacher's tap, and `pooled`.

    Attributes:
        projector: makes a module from the channels of the teacher's tap.
        class_order: that of the teacher, whose head gives the logits (`Trained`); `bind` sets it.
    """

    of: NetworkRef = required("student")
    tap: str = option("stage3", "tap of the student")
    teacher: NetworkRef = option("teacher", "network whose classifier is reused")
    teacher_tap: str = option("", "tap of the teacher; `tap` if empty")
    projector: Callable[[int], nn.Module] = Projector
    class_order: tuple[int, ...] = ()
    learns = True
    needs_fields = ("image",)

    def __post_init__(self) -> None:
        if not self.teacher_tap:
            object.__setattr__(self, "teacher_tap", self.tap)

    def bind(self, networks: Mapping[str, Source]) -> Source:
        return dataclasses.replace(self, class_order=getattr(networks[self.teacher], "class_order", ()))

    @property
    def borrows(self) -> str:
        return self.teacher

    def init(self, key: jax.Array, batch: Batch, outputs: Outputs, variables: Mapping[str, Variables]) -> Variables:
        module, x = self._projector(outputs)
        return module.init(key, x, train=False)

    def partition(self, variables: Variables) -> Parts:
        params, rest = core.split_params(variables)
        return params, rest, {}

    def _projector(self, outputs: Outputs) -> tuple[nn.Module, jax.Array]:
        """Returns the projector and its input, the student's tap in the size of the teacher's."""
        target = outputs[self.teacher].tap(self.teacher_tap)
        x = outputs[self.of].tap(self.tap)
        if x.ndim != target.ndim:
            raise UserError(
                f"taps of a reused classifier must be two maps or two pooled taps, got {self.tap!r} of {self.of!r},"
                f" {list(x.shape)}, and {self.teacher_tap!r} of {self.teacher!r}, {list(target.shape)}"
            )
        return self.projector(target.shape[-1]), adapters.resize(
            x, (target.shape[1], target.shape[2])
        ) if x.ndim == 4 else x

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        head = variables["borrowed"].get("params", {}).get("head")
        if head is None or "kernel" not in head:
            raise UserError(
                f"the teacher of a reused classifier must have a layer 'head' with a kernel, got {self.teacher!r}"
            )
        module, x = self._projector(outputs)
        trainable = {name: tree for name, tree in variables.items() if name != "borrowed"}
        projected, changed = apply_module(module, trainable, x, key)
        projected = core.precise(projected)
        pooled = jnp.mean(projected, axis=tuple(range(1, projected.ndim - 1)))
        head = jax.lax.stop_gradient(head)
        logits = pooled @ head["kernel"] + head["bias"][None]
        logits = core.select_classes(logits, jnp.array(self.class_order)) if self.class_order else logits
        return Output(logits, {"projected": projected, "pooled": pooled}), changed
