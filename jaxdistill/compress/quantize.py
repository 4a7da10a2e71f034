"""A view: weights and activations on grids of few bits, for quantization-aware training and after training.

    w' = scale (clip(round(w / scale) + zero) - zero)          the gradient passes the rounding (`fake_quantize.py`)

A network that is trained with this view is trained quantization-aware (Jacob et al., CVPR 2018,
https://arxiv.org/abs/1712.05877), one that is frozen with it is quantized after training, and a student that is trained
with it by terms from its own full-precision self is distilled (Mishra & Marr, "Apprentice", ICLR 2018,
https://arxiv.org/abs/1711.05852). `integers` returns the numbers that an export stores.

`range="learned"` makes the scales params of the optimizer: Esser et al., "Learned Step Size Quantization", ICLR 2020,
https://arxiv.org/abs/1902.08153.

The same in another form: qwix quantizes the operands of products as they are called, where these views are functions
of params and so compose with masks, factors and codebooks. Its symmetric scales of 8 and 4 bits are max / 127.5 and
max / 7.5, which reach half a step further than ours; a test compares the two.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Int8

from jaxdistill.compress import channels, layer_inputs
from jaxdistill.compress.fake_quantize import (
    TINY,
    Grid,
    Limits,
    fake_quantize,
    first_step,
    fit_grid,
    from_integers,
    grid_of_range,
    integer_limits,
    learned_step,
    to_integers,
)
from jaxdistill.compress.layer_inputs import InputRange
from jaxdistill.compress.view import Arrays, Calibration, Extra, Interceptor, Shapes, Stored, View
from jaxdistill.config.durations import Steps
from jaxdistill.config.parse import option
from jaxdistill.errors import UserError, check_between

PER = ("channel", "tensor")
RANGES = ("minmax", "percentile", "learned")
DYNAMIC = "dynamic"
UNSEEN = InputRange(*[np.float32(np.nan)] * 3)
"""Of a layer before calibration; it makes outputs NaN."""

STARTED = "started"
"""The state of a view that begins late: 1 from its first update on, else 0."""


class Integers(NamedTuple):
    """A quantized array.

    Attributes:
        q: int8, of the array's shape.
        scale: float32, of a shape that broadcasts with `q`.
        zero: int8, of the shape of `scale`; 0 on a symmetric grid.
    """

    q: Int8[Array, "..."]
    scale: Float[Array, "..."]
    zero: Int8[Array, "..."]

    def dequantize(self) -> Float[Array, "..."]:
        """Returns `scale * (q - zero)`, float32, bit-equal to the array of a finished network."""
        return from_integers(self.q, Grid(self.scale, self.zero))


@dataclasses.dataclass(frozen=True)
class Quantize(View):
    """Weights, and with `activations` the inputs of their layers, on grids of few bits.

    Kernels are rounded, except that of the layer `head`; `match` may name the head, an embedding, or any other array
    of two or more axes. Each layer of a scanned stack has scales of its own.
    """

    bits: int = option(8, "bits of a weight, 2 to 8")
    per: str = option("channel", "values that share a scale: an output channel's, or a tensor's", choices=PER)
    symmetric: bool = option(True, "whether the grid of weights reaches as far below 0 as above")
    range: str = option("minmax", "range of weights: of all, of a percentile, or learned (LSQ)", choices=RANGES)
    percentile: float = option(99.9, "percentile of a range of that name, of weights and of inputs")
    activations: int = option(0, "bits of the inputs of layers, 2 to 8; 0 to leave them exact")
    activation_range: str = option(
        DYNAMIC,
        "range of the inputs: of each example as it comes, or from calibration in a stage of kind 'compress'",
        choices=(DYNAMIC, *RANGES),
    )
    activation_symmetric: bool = option(True, "whether the grid of inputs reaches as far below 0 as above")
    start: Steps = option(0, "updates before the first quantized one", least=0)

    order: ClassVar[int] = 5

    def takes(self, name: str, shape: tuple[int, ...]) -> bool:
        return len(shape) > 1

    def selected(self, params: Shapes) -> list[str]:
        if self.match:
            return super().selected(params)
        return [name for name in super().selected(params) if channels.is_kernel(name)]

    def check(self, params: Shapes) -> None:
        super().check(params)
        check_between("bits", self.bits, 2, 8)
        if self.activations:
            check_between("activations", self.activations, 2, 8)
        if not 50 < self.percentile <= 100:
            raise UserError(f"percentile must be above 50 and at most 100, got {self.percentile}. Use 99.9")
        scanned = [name for name in self.selected(params) if channels.is_scanned(name)]
        if self.needs_data and scanned:
            raise UserError(
                f"activation_range must be {DYNAMIC!r} for scanned layers, which share one program, got"
                f" {self.activation_range!r} with {scanned[0]!r}. Set scan=False, or {DYNAMIC!r}"
            )

    @property
    def needs_data(self) -> bool:
        """Whether ranges of inputs are those of calibration data."""
        return bool(self.activations) and self.activation_range != DYNAMIC

    @property
    def last_step(self) -> int:
        return self.start

    @property
    def layer_change(self) -> str:
        return "activations" if self.activations else ""

    def has_started(self, extra: Extra) -> bool:
        """Whether the network is quantized by now; of arrays that are not traced."""
        return not self.start or bool(extra.state[STARTED] > 0)

    @property
    def limits(self) -> Limits:
        """The integers of a weight."""
        return integer_limits(self.bits, self.symmetric)

    def init(self, params: Arrays) -> Extra:
        """Returns learned scales of weights; those of inputs are NaN until they are calibrated."""
        learned: dict[str, Array] = {}
        state: dict[str, Array] = {STARTED: jnp.zeros(())} if self.start else {}
        names = self.selected(params)
        for name in names if self.range == "learned" else []:
            grid = self._first_grid(name, params[name])
            learned[f"{name}_step"] = grid.scale
            state |= {} if self.symmetric else {f"{name}_zero": grid.zero}
        extra = Extra(learned, state)
        return self._with_inputs(extra, dict.fromkeys(_layers(names), UNSEEN)) if self.needs_data else extra

    def fit(self, variables: Arrays, calibration: Calibration) -> tuple[dict[str, Array], Extra]:
        stored, extra = super().fit(variables, calibration)
        if self.needs_data:
            percentile = self.percentile if self.activation_range == "percentile" else 100.0
            params = {name.removeprefix("params/"): x for name, x in stored.items() if name.startswith("params/")}
            layers = _layers(self.selected(params))
            extra = self._with_inputs(extra, layer_inputs.measure(calibration, stored, layers, percentile))
        return stored, extra

    def view(self, params: Arrays, extra: Extra) -> dict[str, Array]:
        return {**params, **{name: self._from(extra, params[name], x) for name, x in self._rounded(params, extra)}}

    def finish(self, params: Arrays, extra: Extra) -> dict[str, Array]:
        return {**params, **{name: self._from(extra, params[name], x) for name, x in self._rounded(params, extra)}}

    def stored(self, forms: Mapping[str, Stored], params: Arrays, extra: Extra) -> dict[str, Stored]:
        """Returns forms in `bits` with scales in float32 and, of affine grids, zeros in int8; of fixed inputs too."""
        if not self.has_started(extra):
            return dict(forms)
        stored = dict(forms)
        inputs = (32 + 8) * self.needs_data
        for name in self.selected(params):
            count = jax.eval_shape(lambda name=name: self.grid(name, params[name], extra).scale).size
            extra_bits = forms[name].extra_bits + count * (32 + 8 * (not self.symmetric)) + inputs
            stored[name] = forms[name]._replace(bits=min(forms[name].bits, self.bits), extra_bits=extra_bits)
        return stored

    def update(self, extra: Extra, params: Arrays, step: Int[Array, ""]) -> Extra:
        return extra._replace(state={**extra.state, STARTED: 1.0 * (step >= self.start)}) if self.start else extra

    def intercept(self, extra: Extra) -> Interceptor | None:
        """Returns an interceptor that rounds the inputs of the layers whose weights are rounded."""
        if not self.activations:
            return None

        def round_input(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            layer = context.module
            if not layer_inputs.is_call(args, context):
                return call(*args, **kwargs)
            name = "/".join(layer.path)
            arrays = {f"{name}/{key}".lstrip("/"): x for key, x in layer.variables.get("params", {}).items()}
            if not self.selected(arrays):
                return call(*args, **kwargs)
            x = self._from(extra, args[0], self._round_input(args[0], layer, extra))
            return call(x, *args[1:], **kwargs)

        return round_input

    def grid(self, name: str, w: Float[Array, "..."], extra: Extra) -> Grid:
        """Returns the grid of an array of weights."""
        if self.range == "learned":
            scale = jnp.maximum(jnp.abs(extra.learned[f"{name}_step"]), TINY)
            return Grid(scale, jnp.zeros_like(scale) if self.symmetric else extra.state[f"{name}_zero"])
        percentile = self.percentile if self.range == "percentile" else 100.0
        axes = self._axes(name, w.shape)
        return fit_grid(jax.lax.stop_gradient(w), axes, self.bits, symmetric=self.symmetric, percentile=percentile)

    def _axes(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (channels.summed_axes if self.per == "channel" else channels.layer_axes)(name, shape)

    def _first_grid(self, name: str, w: Float[Array, "..."]) -> Grid:
        """Returns LSQ's first grid of an array of weights; an affine one has the zero of its range."""
        axes = self._axes(name, w.shape)
        zero = fit_grid(w, axes, self.bits, symmetric=self.symmetric).zero
        return Grid(first_step(jnp.mean(jnp.abs(w), axes, keepdims=True), self.limits.highest - zero), zero)

    def _rounded(self, params: Arrays, extra: Extra) -> Iterator[tuple[str, Array]]:
        for name in self.selected(params):
            w, grid = params[name], self.grid(name, params[name], extra)
            if self.range == "learned":
                yield name, learned_step(w, grid, self.limits, w.size // grid.scale.size)
            else:
                yield name, fake_quantize(w, grid, self.limits)

    def _round_input(self, x: Float[Array, "..."], layer: nn.Module, extra: Extra) -> Float[Array, "..."]:
        bits, symmetric = self.activations, self.activation_symmetric
        limits = integer_limits(bits, symmetric)
        if self.activation_range == DYNAMIC:
            axes = layer_inputs.example_axes(layer, x.ndim)
            return fake_quantize(x, fit_grid(jax.lax.stop_gradient(x), axes, bits, symmetric=symmetric), limits)
        name = _input_name(layer.path)
        if self.activation_range == "learned":
            scale = jnp.maximum(jnp.abs(extra.learned[f"{name}_step"]), TINY)
            return learned_step(x, Grid(scale, extra.state[f"{name}_zero"]), limits, math.prod(x.shape[1:]))
        return fake_quantize(x, Grid(extra.state[f"{name}_scale"], extra.state[f"{name}_zero"]), limits)

    def _with_inputs(self, extra: Extra, ranges: Mapping[str, InputRange]) -> Extra:
        """Returns extra arrays with the grids of the inputs of layers."""
        learned, state = dict(extra.learned), dict(extra.state)
        highest = integer_limits(self.activations, self.activation_symmetric).highest
        for layer, (low, high, mean) in ranges.items():
            scale, zero = grid_of_range(low, high, self.activations, self.activation_symmetric)
            name = _input_name(tuple(layer.split("/")))
            state[f"{name}_zero"] = zero
            if self.activation_range == "learned":
                learned[f"{name}_step"] = first_step(mean, highest - zero)
            else:
                state[f"{name}_scale"] = scale
        return Extra(learned, state)

    def _from(self, extra: Extra, exact: Array, rounded: Array) -> Array:
        """Returns the rounded array once the view has begun."""
        return jnp.where(extra.state[STARTED] > 0, rounded, exact) if self.start else rounded


def integers(name: str, array: Float[Array, "..."], view: Quantize, extra: Extra) -> Integers:
    """Returns the integers of an array that `view` takes, for an export.

    `integers(name, w, view, extra).dequantize()` is bit-equal to `view.finish({name: w}, extra)[name]`.

    Args:
        name: of the array, such as `block0/attention/query/kernel`.
        array: what the views before this one have made of the stored one; not the finished array, whose grid is
            another if its largest value was clipped.
        view: as built from the config.
        extra: of the view.
    """
    grid = view.grid(name, array, extra)
    q = to_integers(array, grid, view.limits)
    return Integers(q.astype(jnp.int8), grid.scale, grid.zero.astype(jnp.int8))


def _layers(names: list[str]) -> list[str]:
    """Returns the layers of kernels."""
    return list(dict.fromkeys(name.rpartition("/")[0] for name in names if channels.is_kernel(name)))


def _input_name(path: tuple[str, ...]) -> str:
    return "/".join([*filter(None, path), "input"])
