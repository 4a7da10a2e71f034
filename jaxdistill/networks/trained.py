"""Networks with weights of their own: those that learn, and those that only speak."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax

from jaxdistill import core
from jaxdistill.networks.source import Source, apply


@dataclasses.dataclass(frozen=True)
class Trained(Source):
    """A network that learns: its params are the optimizer's, its batch statistics are state.

    Attributes:
        input: what of the batch it looks at; "" for what its module reads first, `module.reads[0]`, else images. A
            text's mask, and whatever else the module reads, goes with it where the batch has it: `teacher_token_mask`
            with `teacher_tokens`.
    """

    module: nn.Module
    input: str = ""
    preprocess: Callable[[jax.Array], jax.Array] | None = None
    learns = True

    def __post_init__(self):
        if not self.input:
            object.__setattr__(self, "input", self.reads_first)

    @property
    def reads_first(self) -> str:
        return getattr(self.module, "reads", ("image",))[0]

    def look(self, batch):
        """The images, or tokens, as the module sees them."""
        return batch[self.input] if self.preprocess is None else self.preprocess(batch[self.input])

    def beside(self, batch) -> dict[str, jax.Array]:
        """What else the module reads, by the names of its arguments."""
        first, *others = getattr(self.module, "reads", ("image",))
        whose = self.input.removesuffix(first)
        return {name: batch[whose + name] for name in others if whose + name in batch}

    def init(self, key, batch, outputs, known):
        return self.module.init(key, self.look(batch), train=False, **self.beside(batch))

    def place(self, variables):
        params, rest = core.split(variables)
        return params, rest, {}

    def __call__(self, variables, batch, outputs, key):
        return apply(self.module, variables, self.look(batch), key, **self.beside(batch))


@dataclasses.dataclass(frozen=True)
class Frozen(Trained):
    """A network that only speaks: always in inference mode, never in the state, never in a checkpoint.

    Attributes:
        offload: whether its weights live in the host's memory, and are brought to the device in every step. They must
            be put there (`memory_kind="pinned_host"`), and the call be compiled.
    """

    offload: bool = False
    learns = False
    frozen = True

    def place(self, variables):
        return {}, {}, variables

    def __call__(self, variables, batch, outputs, key):
        if self.offload:
            variables = jax.device_put(variables, jax.memory.Space.Device)
        return apply(self.module, variables, self.look(batch), None, **self.beside(batch))
