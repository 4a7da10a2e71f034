"""The convolution of oneDNN as an operation of a JAX program, and the equations of a program that it computes.

JAX writes a convolution and its two gradients as one primitive with other strides and other roles of the axes
(`jax._src.lax.convolution`, its transpose rules). oneDNN has an operation for each. `read` finds which of them an
equation is.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

TARGET = "jaxdistill_onednn"
"""The beginning of the name of a custom call; a digest of the library follows."""

FORWARD, BY_SOURCE, BY_WEIGHTS = range(3)
"""Kinds: the convolution, its gradient by its source, and that by its weights."""

BIAS, RESIDUAL, RELU = 1, 2, 4
"""Bits of what follows a forward convolution in the same call."""

# Axes of batch, features, rows and columns, as `ConvDimensionNumbers` has them; of kernels: outputs, inputs.
NHWC, HWIO, HWOI, CHWN = (0, 3, 1, 2), (3, 2, 0, 1), (2, 3, 0, 1), (3, 0, 1, 2)
DTYPES = {jnp.dtype(jnp.float32): 0, jnp.dtype(jnp.bfloat16): 1}
NARROW = 8
"""Fewer inputs of a group than this are left to oneDNN's grouped convolution; others become lanes."""


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The numbers that describe a call, in the order of `convolution.cc`.

    `source` is the input of the forward convolution and `result` its output, whichever of them is computed.
    """

    kind: int
    lanes: int
    groups: int
    batch: int
    inputs: int
    outputs: int
    height: int
    width: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    stride_down: int
    stride_across: int
    dilation_down: int
    dilation_across: int
    top: int
    left: int
    bottom: int
    right: int
    operands: int
    results: int
    fused: int = 0

    @classmethod
    def parse(cls, text: str) -> "Geometry":
        """Returns the geometry of a text."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: int(number) for name, number in zip(names, text.split(), strict=True)})

    def __str__(self) -> str:
        return " ".join(map(str, dataclasses.astuple(self)))

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.kernel_height, self.kernel_width

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of what a call computes, with an axis of lanes before the others."""
        if self.kind == BY_WEIGHTS:
            return self.lanes, *self.kernel, self.inputs, self.groups * self.outputs
        if self.kind == BY_SOURCE:
            return self.lanes, self.batch, self.height, self.width, self.groups * self.inputs
        return self.lanes, self.batch, self.out_height, self.out_width, self.groups * self.outputs

    @property
    def dtype(self) -> Any:
        """The dtype of what a call computes."""
        return next(dtype for dtype, code in DTYPES.items() if code == self.results)


@dataclasses.dataclass(frozen=True)
class Convolution:
    """A convolution of a program.

    Attributes:
        geometry: its numbers.
        lanes_in_batch: whether the rows of the source, and not its channels, hold the lanes.
        transposes: whether inputs and outputs of the kernel change places.
        reverses: whether the program's kernel is the reverse of the one of `geometry`.
    """

    geometry: Geometry
    lanes_in_batch: bool = False
    transposes: bool = False
    reverses: bool = False


def read(params: dict[str, Any], left: Any, right: Any, output: Any) -> Convolution | None:
    """Returns the convolution that an equation of `conv_general_dilated` is; None for one without a kind here.

    Args:
        params: of the equation.
        left: the shape and dtype of its first operand.
        right: the same of the second.
        output: the same of the result.
    """
    numbers = tuple(params["dimension_numbers"])
    is_supported = left.ndim == 4 and left.dtype == right.dtype and {left.dtype, output.dtype} <= DTYPES.keys()
    if not is_supported or 0 in (*left.shape, *right.shape, *output.shape):
        return None
    groups, batch_groups = params["feature_group_count"], params["batch_group_count"]
    lhs_dilation, strides = params["lhs_dilation"], params["window_strides"]
    is_plain, is_dense = math.prod(lhs_dilation) == 1, math.prod(strides) == 1
    if numbers == (CHWN, CHWN, HWOI) and is_plain:
        return _by_weights(params, left, right, output)
    if (numbers[0], numbers[2]) != (NHWC, NHWC) or batch_groups != 1 or numbers[1] not in (HWIO, HWOI):
        return None
    is_turned = numbers[1] == HWOI
    if is_dense and (is_turned or not is_plain):
        return None if groups > 1 and not is_turned else _by_source(params, left, right, output)
    return None if (groups > 1 and is_turned) or not is_plain else _forward(params, left, right, output)


def _forward(params: dict[str, Any], left: Any, right: Any, output: Any) -> Convolution | None:
    is_turned = tuple(params["dimension_numbers"][1]) == HWOI
    geometry = _make(
        FORWARD,
        source=left.shape,
        result=output.shape,
        kernel=right.shape[:2],
        groups=params["feature_group_count"],
        strides=params["window_strides"],
        dilation=params["rhs_dilation"],
        before=[low for low, _ in params["padding"]],
        dtypes=(left.dtype, output.dtype),
    )
    return Convolution(geometry, transposes=is_turned) if geometry else None


def _by_source(params: dict[str, Any], left: Any, right: Any, output: Any) -> Convolution | None:
    is_turned, dilation = tuple(params["dimension_numbers"][1]) == HWOI, params["rhs_dilation"]
    spans = [step * (size - 1) for step, size in zip(dilation, right.shape[:2], strict=True)]
    geometry = _make(
        BY_SOURCE,
        source=output.shape,
        result=left.shape,
        kernel=right.shape[:2],
        groups=params["feature_group_count"],
        strides=params["lhs_dilation"],
        dilation=dilation,
        before=[span - low for span, (low, _) in zip(spans, params["padding"], strict=True)],
        dtypes=(left.dtype, output.dtype),
    )
    return Convolution(geometry, transposes=not is_turned, reverses=True) if geometry else None


def _by_weights(params: dict[str, Any], left: Any, right: Any, output: Any) -> Convolution | None:
    lanes, groups = params["feature_group_count"], params["batch_group_count"]
    batch, *size, channels = left.shape
    geometry = _make(
        BY_WEIGHTS,
        source=(batch // lanes, *size, channels * lanes),
        result=right.shape,
        kernel=output.shape[:2],
        groups=max(lanes, groups),
        strides=params["rhs_dilation"],
        dilation=params["window_strides"],
        before=[low for low, _ in params["padding"]],
        dtypes=(left.dtype, output.dtype),
        are_lanes=lanes > 1,
    )
    return Convolution(geometry, lanes_in_batch=lanes > 1) if geometry else None


def _make(
    kind: int,
    *,
    source: Sequence[int],
    result: Sequence[int],
    kernel: Sequence[int],
    groups: int,
    strides: Sequence[int],
    dilation: Sequence[int],
    before: Sequence[int],
    dtypes: tuple[Any, Any],
    are_lanes: bool = False,
) -> Geometry | None:
    """Returns the numbers of a convolution from the shapes of its two sides; None if its padding has none."""
    after = []
    for size, out, width, step, spread, low in zip(
        source[1:3], result[1:3], kernel, strides, dilation, before, strict=True
    ):
        # Several paddings give `out` places; oneDNN takes any of them, best one that is not negative.
        least = (out - 1) * step + spread * (width - 1) + 1 - size - low
        high = max(least, 0) if least + step > 0 else least
        if low < 0 or high + step <= 0:
            return None
        after.append(high)
    inputs, outputs = source[3] // groups, result[3] // groups
    are_lanes = are_lanes or (groups > 1 and inputs >= NARROW)
    operands, results = (DTYPES[jnp.dtype(dtype)] for dtype in dtypes)
    pairs = {
        ("height", "width"): source[1:3],
        ("out_height", "out_width"): result[1:3],
        ("kernel_height", "kernel_width"): kernel,
        ("stride_down", "stride_across"): strides,
        ("dilation_down", "dilation_across"): dilation,
        ("top", "left"): before,
        ("bottom", "right"): after,
    }
    return Geometry(
        kind=kind,
        lanes=groups if are_lanes else 1,
        groups=1 if are_lanes else groups,
        batch=source[0],
        inputs=inputs,
        outputs=outputs,
        operands=operands,
        results=results,
        **{name: int(x) for names, values in pairs.items() for name, x in zip(names, values, strict=True)},
    )


def count_flops(params: Mapping[str, Any]) -> int:
    """Counts the FLOPs of a call, as `train.flops` counts those of XLA's equation; from the params of `ffi_call`."""
    g = Geometry.parse(dict(params["attributes"])["geometry"])
    counted = 2 * g.lanes * g.groups * g.batch * math.prod(g.kernel) * g.inputs * g.outputs
    if g.kind == BY_SOURCE:
        return counted * g.height * g.width // (g.stride_down * g.stride_across)
    return counted * g.out_height * g.out_width


def make_call(convolution: Convolution, target: str, mesh: Any, axes: tuple[str, ...]) -> Callable[..., jax.Array]:
    """Returns the function of an equation's operands, and of those of what follows it, that calls oneDNN.

    Args:
        convolution: of the equation.
        target: the name of the custom call.
        mesh: the mesh of the program.
        axes: the axes that split the batch; empty for a program of one device.
    """
    geometry = convolution.geometry
    devices = math.prod(mesh.shape[axis] for axis in axes) if axes else 1
    local = dataclasses.replace(geometry, batch=geometry.batch // devices)

    def call(*operands: jax.Array) -> jax.Array:
        shape = jax.ShapeDtypeStruct(local.shape, local.dtype)
        y = jax.ffi.ffi_call(target, shape)(*operands, geometry=str(local))
        return jax.lax.psum(y, axes) if axes and geometry.kind == BY_WEIGHTS else y

    if axes:
        rows, whole = PartitionSpec(None, axes), PartitionSpec()
        sums = geometry.kind == BY_WEIGHTS
        specs = [rows, rows if sums else whole] + [whole] * bool(geometry.fused & BIAS)
        specs += [rows] * bool(geometry.fused & RESIDUAL)
        output = whole if sums else rows
        call = jax.shard_map(call, mesh=mesh, in_specs=tuple(specs), out_specs=output, check_vma=False)

    def onednn_convolution(left: jax.Array, right: jax.Array, *others: jax.Array) -> jax.Array:
        left, right = _split_lanes(convolution, left, right)
        return _join_lanes(call(left, right, *(operand[None] for operand in others)))

    return onednn_convolution


def _split_lanes(convolution: Convolution, left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the operands as a call takes them, with an axis of lanes before the others."""
    geometry = convolution.geometry
    lanes = geometry.lanes
    if convolution.reverses:
        right = jax.lax.rev(right, (0, 1))
    if convolution.transposes:
        right = jnp.swapaxes(right, 2, 3)
    if convolution.lanes_in_batch:
        left = left.reshape(lanes, -1, *left.shape[1:])
    else:
        left = _split_axis(left, 3, lanes)
    return left, _split_axis(right, 2 if geometry.kind == BY_SOURCE else 3, lanes)


def _split_axis(x: jax.Array, axis: int, lanes: int) -> jax.Array:
    if lanes == 1:
        return x[None]
    return jnp.moveaxis(x.reshape(*x.shape[:axis], lanes, -1, *x.shape[axis + 1 :]), axis, 0)


def _join_lanes(x: jax.Array) -> jax.Array:
    """Returns what a call computes with its lanes among its last axis."""
    if len(x) == 1:
        return x[0]
    return jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], -1)
