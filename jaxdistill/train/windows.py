"""Predictions of large images from windows that overlap, with the logits averaged where they do."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill import core
from jaxdistill.core import Batch, Output
from jaxdistill.errors import UserError


def starts(length: int, window: int) -> list[int]:
    """Returns the first places of windows that overlap by at least a half, the last one at the end of the side."""
    return [*range(0, length - window, max(1, window // 2)), length - window]


def in_windows(
    run: Callable[[Batch], Mapping[str, Output]], batch: Batch, window: tuple[int, int], names: tuple[str, ...]
) -> dict[str, Output]:
    """Returns outputs of whole images, whose logits are means over windows; there are no taps.

    Args:
        run: a batch -> outputs by network, with logits `[batch, height, width, classes]`.
        batch: prepared; arrays of the size of the images are cut.
        window: height and width.
        names: the networks whose outputs are returned.

    Raises:
        UserError: for windows larger than the images, and networks with other predictions than one of each pixel.
    """
    size = batch["image"].shape[1:3]
    if any(part > side for part, side in zip(window, size, strict=True)):
        raise UserError(f"evaluate.window must be at most the images' height and width, {size}, got {window}")
    cut = {name for name, x in batch.items() if x.ndim > 2 and x.shape[1:3] == size}
    places = [(y, x) for y in starts(size[0], window[0]) for x in starts(size[1], window[1])]
    corners = jnp.asarray(places, jnp.int32)

    def run_window(corner: Array) -> dict[str, Float[Array, "batch height width _"]]:
        place = functools.partial(_slice, corner=corner, window=window)
        outputs = run({name: place(x) if name in cut else x for name, x in batch.items()})
        return {name: core.dense(outputs[name].logits) for name in names}

    shapes = jax.eval_shape(run_window, corners[0])
    for name, logits in shapes.items():
        if logits.shape[1:3] != window:
            raise UserError(
                f"evaluate.window must be () for network {name!r}, which predicts {list(logits.shape[1:-1])} of a"
                f" window of {window}. Only networks with a prediction of each pixel are evaluated in windows"
            )

    def add(total: Mapping[str, Any], corner: Array) -> tuple[Mapping[str, Any], None]:
        part = {**run_window(corner), "": jnp.ones((1, *window, 1))}
        return {name: _add(total[name], part[name], corner) for name in total}, None

    zeros = {name: jnp.zeros((x.shape[0], *size, x.shape[-1]), x.dtype) for name, x in shapes.items()}
    total, _ = jax.lax.scan(add, {**zeros, "": jnp.zeros((1, *size, 1))}, corners)
    return {name: Output(total[name] / total[""]) for name in names}


def _slice(x: Array, corner: Array, window: Sequence[int]) -> Array:
    rows = jax.lax.dynamic_slice_in_dim(x, corner[0], window[0], 1)
    return jax.lax.dynamic_slice_in_dim(rows, corner[1], window[1], 2)


def _add(total: Array, part: Array, corner: Array) -> Array:
    old = _slice(total, corner, part.shape[1:3])
    return jax.lax.dynamic_update_slice(total, old + part, (0, corner[0], corner[1], 0))
