"""Networks with weights of their own: those that learn, and those that only speak."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.compress import fold_batchnorm, layer_graph
from jaxdistill.compress import quantize as narrow
from jaxdistill.networks.source import Source, apply


@dataclasses.dataclass(frozen=True)
class Trained(Source):
    """A network that learns: its params are the optimizer's, its batch statistics are state.

    Attributes:
        input: the field of the batch that the module is applied to; "" for the first of `module.inputs`, or images. The
            module's other inputs go with it if the batch has them: `teacher_token_mask` with `teacher_tokens`.
    """

    module: nn.Module
    input: str = ""
    preprocess: Callable[[jax.Array], jax.Array] | None = None
    learns = True

    def __post_init__(self):
        if not self.input:
            object.__setattr__(self, "input", self.first_input)

    @property
    def first_input(self) -> str:
        return getattr(self.module, "inputs", ("image",))[0]

    def look(self, batch):
        """The images, or tokens, as the module sees them."""
        return batch[self.input] if self.preprocess is None else self.preprocess(batch[self.input])

    def beside(self, batch) -> dict[str, jax.Array]:
        """The module's other inputs, by the names of its arguments."""
        first, *others = getattr(self.module, "inputs", ("image",))
        prefix = self.input.removesuffix(first)
        return {name: batch[prefix + name] for name in others if prefix + name in batch}

    def init(self, key, batch, outputs, known):
        return self.module.init(key, self.look(batch), train=False, **self.beside(batch))

    def place(self, variables):
        params, rest = core.split_params(variables)
        return params, rest, {}

    def __call__(self, variables, batch, outputs, key):
        return apply(self.module, variables, self.look(batch), key, **self.beside(batch))


QUANTIZATIONS = ("", "int8")


@dataclasses.dataclass(frozen=True)
class Frozen(Trained):
    """A network that only speaks: always in inference mode, never in the state, never in a checkpoint.

    It speaks from the variables that it was given as well as from what `reduce` makes of them: call that once, before
    the first step, as the stages of a config do (`lanes.reduced`).

    Attributes:
        offload: whether its weights live in the host's memory, and are brought to the device in every step. They must
            be put there (`memory_kind="pinned_host"`), and the call be compiled.
        fold: whether BatchNorms are folded into the convolutions that feed them (`compress.fold`).
        quantize: "int8" for weights and activations of 8 bits (`compress.narrow`), "" for neither. A module that
            computes in bfloat16 has its kernels stored in it.
    """

    offload: bool = False
    fold: bool = False
    quantize: str = ""
    learns = False
    frozen = True

    @property
    def is_narrow(self) -> bool:
        """Whether it speaks with fewer bits than float32, and so not quite as it was trained."""
        return bool(self.quantize) or self._halved

    @property
    def _halved(self) -> bool:
        return getattr(self.module, "dtype", None) == jnp.bfloat16

    @property
    def exact(self) -> "Frozen":
        """The same network in float32, not reduced."""
        module = self.module.clone(dtype=jnp.float32) if self._halved else self.module
        return dataclasses.replace(self, module=module, fold=False, quantize="")

    def reduce(self, variables, batch):
        if not (self.fold or self.is_narrow):
            return variables
        if self.offload:
            variables = jax.device_put(variables, jax.memory.Space.Device)

        def say(variables):
            zeros = {name: jnp.zeros(x.shape, x.dtype) for name, x in batch.items()}
            return self(variables, zeros, {}, None)[0]

        layers = layer_graph.trace(say, variables)
        if self.fold:
            variables = fold_batchnorm.fold(variables, layers)
        if self.quantize:
            return narrow.int8(variables, layers)
        return narrow.bfloat16(variables, layers) if self._halved else variables

    def place(self, variables):
        return {}, {}, variables

    def __call__(self, variables, batch, outputs, key):
        if self.offload:
            variables = jax.device_put(variables, jax.memory.Space.Device)
        with nn.intercept_methods(fold_batchnorm.folded), nn.intercept_methods(narrow.quantized):
            return apply(self.module, variables, self.look(batch), None, **self.beside(batch))
