"""Teachers that are not Linen modules: any pure function, and NNX modules.

In a config, `dict(source="function", function="package.module:name")` names one of these; `factory` names a function
that returns one, and is called once with `settings` as keywords:

- a pure JAX function of the images `[batch, height, width, channels]`, standardised as the network's `preprocess` sets
  and otherwise as the data, or of tokens int32 `[batch, length]`; or
- a `flax.nnx.Module`, called likewise in its evaluation mode, whose state is then an argument of the compiled step and
  not a constant in it.

Either returns logits `[batch, classes]` (of tokens also `[batch, length, vocabulary]`), or `(logits, {name: tap})`, or
an `Output`. In a program, `Function(function)` and `Function.of_nnx(module)` are the same.
"""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from jaxdistill.config import registry
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError, unknown
from jaxdistill.networks.model import PreprocessSettings, build_preprocess
from jaxdistill.networks.options import select
from jaxdistill.networks.source import Context, Outputs, Parts, Source

KINDS = "a function or an nnx.Module"


@dataclasses.dataclass(frozen=True)
class FunctionSettings:
    """Config keys that make the function."""

    function: str = option("", "'package.module:name' of the function or the `nnx.Module`")
    factory: str = option("", "'package.module:name' of a function that returns it, instead of `function`")
    settings: dict[str, Any] = option(dict, "keywords of the factory")
    preprocess: PreprocessSettings = option(PreprocessSettings, "images that the function expects")


@dataclasses.dataclass(frozen=True)
class Function(Source):
    """A frozen network that is any function `(images) -> logits`, or with `variables`, `(variables, images) -> logits`.

    Attributes:
        function: pure; it may be traced by `jit`.
        variables: a pytree of arrays that it is called with; never changed, never saved.
        input: the field of the batch that it is called with.
        keywords: further fields that it is called with, by their names.
        preprocess: applied to images before the function.
    """

    function: Callable[..., Any]
    variables: Variables = dataclasses.field(default_factory=dict)
    input: str = option("", "field of the batch that it is called with; that of the data if empty")
    keywords: tuple[str, ...] = option((), "further fields of the batch, given by keyword, such as 'token_mask'")
    preprocess: Callable[[jax.Array], jax.Array] | None = None
    frozen = True
    settings = FunctionSettings

    def __post_init__(self) -> None:
        if not self.input:
            object.__setattr__(self, "input", "image")

    @classmethod
    def build(cls, name: str, options: Mapping[str, Any], context: Context) -> Self:
        path = f"networks.{name}"
        settings = FunctionSettings(**select(FunctionSettings, options))
        values: dict[str, Any] = select(cls, options) | {"input": options["input"] or context.input}
        values["preprocess"] = build_preprocess(name, settings.preprocess, context)
        function = _find_function(settings, path)
        if any(member.__module__.startswith("flax.nnx") for member in type(function).__mro__):
            return cls.of_nnx(function, **values)
        if not callable(function):
            given = f"factory must return {KINDS}, got {function!r} from {settings.factory!r}"
            if settings.function:
                given = f"function must be {KINDS}, got {function!r}, which is {settings.function!r}"
            raise UserError(f"{path}.{given}")
        return cls(function, **values)

    @classmethod
    def of_nnx(cls, module: Any, **fields: Any) -> Self:
        """Wraps a `flax.nnx.Module`; its variables are read now, in evaluation mode.

        Args:
            module: an `nnx.Module`.
            fields: of the source, such as `input`.
        """
        from flax import nnx

        module.eval()
        structure, params, rest = nnx.split(module, nnx.Param, ...)

        def call(variables: Variables, x: jax.Array, **fields: jax.Array) -> Any:
            return nnx.merge(structure, variables["params"], variables["rest"])(x, **fields)

        return cls(call, {"params": params, "rest": rest}, **fields)

    def init(self, key: jax.Array, batch: Batch, outputs: Outputs, variables: Mapping[str, Variables]) -> Variables:
        return dict(self.variables)

    def partition(self, variables: Variables) -> Parts:
        return {}, {}, variables

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        x = batch[self.input] if self.preprocess is None else self.preprocess(batch[self.input])
        for name in self.keywords:
            if name not in batch:
                raise unknown("keywords of the function of a network", name, batch, "a field of the batch")
        fields = {name: batch[name] for name in self.keywords}
        try:
            value = self.function(variables, x, **fields) if self.variables else self.function(x, **fields)
        except UserError:
            raise
        except Exception as error:  # a user's function may raise anything
            raise UserError(f"the function of a network must accept {self.input!r} {x.shape}, got {error!r}") from error
        return _as_output(value, x), {}


def _find_function(settings: FunctionSettings, path: str) -> Any:
    """Returns the function or the `nnx.Module` that a config names, or that its factory returns."""
    if bool(settings.function) == bool(settings.factory):
        given = {"function": settings.function, "factory": settings.factory}
        raise UserError(f"{path} must have function or factory, got {given}. Set one of the two")
    if settings.function:
        if settings.settings:
            raise UserError(f"{path}.settings must be empty without factory, got {dict(settings.settings)}. Remove it")
        return registry.import_object(settings.function, f"{path}.function")
    module, _, attribute = settings.factory.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)(**settings.settings)
    except Exception as error:  # a user's factory may raise anything
        raise UserError(
            f"{path}.factory must be 'package.module:factory', importable from here, that returns a function of images"
            f" or an nnx.Module, got {settings.factory!r} with {dict(settings.settings)}"
            f" ({type(error).__name__}: {error})"
        ) from error


def _as_output(value: Any, x: jax.Array) -> Output:
    """Returns the value of a function for `x` as an `Output` in float32.

    Raises:
        UserError: if it is neither logits, nor `(logits, {name: tap})`, nor an `Output`.
    """
    if not isinstance(value, Output):
        parts: Any = value if isinstance(value, tuple) and len(value) == 2 else (value, {})
        value = Output(logits=parts[0], taps=parts[1])
    logits: Any = value.logits
    ranks = (2, 3) if jnp.issubdtype(x.dtype, jnp.integer) else (2,)
    fits = getattr(logits, "shape", ())[:1] == x.shape[:1] and len(logits.shape) in ranks
    if fits and jnp.issubdtype(logits.dtype, jnp.floating):
        return value.in_float32()
    shown = f"{logits.dtype} {logits.shape}" if hasattr(logits, "shape") else repr(logits)
    raise UserError(
        "the function of a network must return logits, floats [batch, classes], or (logits, {name: tap}), or an Output,"
        f" got {shown} for images {x.shape}"
    )
