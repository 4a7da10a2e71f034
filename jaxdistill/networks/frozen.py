"""A network whose weights come from elsewhere and never change."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.compress import fold_batchnorm, integer_inference, layer_graph
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks.source import Outputs, Parts
from jaxdistill.networks.trained import Trained

QUANTIZATIONS = ("", "int8")


@dataclasses.dataclass(frozen=True)
class Frozen(Trained):
    """A network in inference mode, which is neither in the state nor in a checkpoint.

    It outputs the same for its variables and for those from `for_inference`. Convert them once, before the first step,
    as the stages of a config do; otherwise every call quantizes them.

    Views of its params are applied in every call, and nothing is folded then, since they are of its params as they are
    stored.

    Attributes:
        offload: whether its weights are held in the host's memory, and are brought to the device in every step. They
            must be put there (`memory_kind="pinned_host"`), and the call be compiled.
        fold: whether `for_inference` folds BatchNorms into the convolutions that feed them (`compress.fold_batchnorm`).
        quantize: "int8" for weights and activations of 8 bits (`compress.integer_inference`), or "". A module that
            computes in bfloat16 has its kernels stored in it.
    """

    offload: bool = False
    fold: bool = False
    quantize: str = ""
    learns = False
    frozen = True
    needs_weights = True

    def check(self) -> None:
        if self.quantize not in QUANTIZATIONS:
            raise unknown("quantize", self.quantize, QUANTIZATIONS)
        if self.quantize and self.views:
            raise UserError(
                f"quantize must be '' for a network with views, got {self.quantize!r}. Add the view"
                " compress.NAME=dict(view='quantize', bits=8) instead"
            )

    @property
    def is_reduced_precision(self) -> bool:
        """Whether it computes below float32, and so not quite as it was trained."""
        return bool(self.quantize) or self._is_bfloat16

    @property
    def _is_bfloat16(self) -> bool:
        return getattr(self.module, "dtype", None) == jnp.bfloat16

    @property
    def full_precision(self) -> "Frozen":
        """The same network in float32, without conversion."""
        module = self.module.clone(dtype=jnp.float32) if self._is_bfloat16 else self.module
        return dataclasses.replace(self, module=module, fold=False, quantize="")

    def for_inference(self, variables: Variables, batch: Batch) -> Variables:
        """Returns the variables folded and quantized; `batch` may be shapes."""
        if self.views or not (self.fold or self.is_reduced_precision):
            return variables
        if self.offload:
            variables = jax.device_put(variables, jax.memory.Space.Device)
        return self._convert(variables, batch)

    def _convert(self, variables: Variables, batch: Batch) -> Variables:
        def predict(variables: Variables) -> Output:
            return self._predict(variables, {name: jnp.zeros(x.shape, x.dtype) for name, x in batch.items()})[0]

        graph = layer_graph.trace(predict, variables)
        if self.fold:
            variables = fold_batchnorm.fold(variables, graph)
        if self.quantize:
            return integer_inference.int8(variables, graph)
        return integer_inference.bfloat16(variables, graph) if self._is_bfloat16 else variables

    def partition(self, variables: Variables) -> Parts:
        return {}, {}, variables

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        if self.offload:
            variables = jax.device_put(variables, jax.memory.Space.Device)
        if self.quantize and not integer_inference.is_quantized(variables):
            variables = self._convert(variables, batch)
        return self._predict(variables, batch)

    def predict_next(
        self, variables: Variables, cache: Variables, tokens: jax.Array, token_mask: jax.Array
    ) -> tuple[Output, Variables]:
        if self.offload:
            variables = jax.device_put(variables, jax.memory.Space.Device)
        with nn.intercept_methods(integer_inference.apply_quantized):
            return super().predict_next(variables, cache, tokens, token_mask)

    def _predict(self, variables: Variables, batch: Batch) -> tuple[Output, Variables]:
        # The names of the parameters decide whether a layer computes as folded or quantized.
        with nn.intercept_methods(fold_batchnorm.apply_folded), nn.intercept_methods(integer_inference.apply_quantized):
            return super().__call__(variables, batch, {}, None)
