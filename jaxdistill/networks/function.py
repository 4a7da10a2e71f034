"""Teachers that are not Linen modules: any pure function, and NNX modules.

In a config, `dict(source="function", factory="package.module:name", settings=dict(...))` calls that factory once, with
`settings` as keywords. It returns either

- a pure JAX function of the images `[batch, height, width, channels]`, standardised as the network's `preprocess` says
  and otherwise as the data, or of tokens int32 `[batch, length]`; or
- a `flax.nnx.Module`, called likewise in its evaluation mode, whose state is then an argument of the compiled step and
  not a constant in it.

What is called returns logits `[batch, classes]` (of tokens also `[batch, length, vocabulary]`), or `(logits, {name:
tap})`, or an `Output`. In a program, `Function(function)` and `Function.of_nnx(module)` are the same.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Output, Variables
from jaxdistill.errors import UserError
from jaxdistill.networks.source import Source


@dataclasses.dataclass(frozen=True)
class Function(Source):
    """A frozen network that is any function `(images) -> logits`, or with `given`, `(state, images) -> logits`.

    Attributes:
        function: pure; it may be traced by `jit`.
        given: the state that it is called with, a pytree of arrays; never changed, never saved.
        input: which images of the batch.
        preprocess: what is done to them first.
    """

    function: Callable[..., Any]
    given: Variables = dataclasses.field(default_factory=dict)
    input: str = "image"
    preprocess: Callable[[jax.Array], jax.Array] | None = None
    frozen = True

    @classmethod
    def of_nnx(cls, module: Any, **more: Any) -> "Function":
        """Wraps a `flax.nnx.Module`; its variables are read now, in evaluation mode."""
        from flax import nnx

        module.eval()
        structure, params, rest = nnx.split(module, nnx.Param, ...)

        def call(variables, x):
            return nnx.merge(structure, variables["params"], variables["rest"])(x)

        return cls(call, {"params": params, "rest": rest}, **more)

    def init(self, key, batch, outputs, known):
        return dict(self.given)

    def place(self, variables):
        return {}, {}, variables

    def __call__(self, variables, batch, outputs, key):
        x = batch[self.input] if self.preprocess is None else self.preprocess(batch[self.input])
        try:
            said = self.function(variables, x) if self.given else self.function(x)
        except UserError:
            raise
        except Exception as error:  # another's code may raise anything
            raise UserError(f"the function of a network fails on images {x.shape}: {error!r}") from error
        if not isinstance(said, Output):
            said = Output(*said) if isinstance(said, tuple) and len(said) == 2 else Output(said)
        logits = said.logits
        lengths = (2, 3) if jnp.issubdtype(x.dtype, jnp.integer) else (2,)
        whole = getattr(logits, "shape", ())[:1] == x.shape[:1] and len(logits.shape) in lengths
        if not whole or not _is_float(logits):
            what = f"{logits.dtype} {logits.shape}" if hasattr(logits, "shape") else repr(logits)
            raise UserError(
                f"the function of a network returns {what} for images {x.shape}; it returns logits, floats"
                " [batch, classes], or (logits, {name: tap}), or an Output"
            )
        floats = jax.tree.map(lambda x: core.precise(x) if jnp.issubdtype(x.dtype, jnp.floating) else x, said)
        return floats, {}


def _is_float(x: jax.Array) -> bool:
    return jnp.issubdtype(x.dtype, jnp.floating)
