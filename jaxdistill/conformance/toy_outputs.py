"""Small random outputs and batches of several tasks, for the promises of methods and metrics."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.core import Batch, Method, Output
from jaxdistill.errors import UserError
from jaxdistill.modules.logits_method import LogitsMethod
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.modules.regression_method import RegressionMethod

ROWS, CLASSES = 6, 5
LENGTH, VOCABULARY, HEADS = 7, 11, 2
NUMBERS = {"gaussian": 2, "quantiles": 9}
"""Numbers of a prediction of a target, by the form of its distribution."""

TARGETS = 2
"""Number of targets of a prediction."""

STRIDES, IMAGE, BOXES, BINS = (32, 64), 128, 3, 5
"""Strides of the levels of a toy detector, the side of its images, boxes of an image, and bins of a distance."""

TASKS = ("images", "pixels", "texts", "derivatives", "next_tokens", "labels", *NUMBERS, "boxes")


@functools.cache
def task_of(method: Method) -> str:
    """Returns next tokens for methods of logits, else the first task whose outputs the method can compare."""
    if isinstance(method, LogitsMethod) and "classes" in method.predictions:
        return "next_tokens"
    if isinstance(method, LogitsMethod | RegressionMethod):
        return method.predictions[0]
    errors = {}
    keys = {"params": jax.random.key(0), "method": jax.random.key(1)}
    for task in TASKS:
        try:
            jax.eval_shape(method.init, keys, *shapes(task))
        except (UserError, TypeError, ValueError, KeyError, IndexError) as error:
            errors[task] = str(error).partition("\n")[0]
            continue
        return task
    raise UserError(
        f"{type(method).__name__} must be able to compare the outputs of one toy task, got errors {errors}."
    )


@functools.cache
def shapes(task: str, wide: bool = False) -> tuple[Output, Output, Any]:
    """Returns the shapes of a student's output, of that of its teacher, `wide` or not, and of the batch."""
    return jax.eval_shape(lambda: (_draw_output(task, 0), _draw_output(task, 1, wide=wide), _draw_batch(task)))


# Cached as arrays: their programs take a second each to compile, and most checks begin with the same ones.
@functools.cache
def batch(task: str) -> dict[str, jax.Array]:
    """Returns a batch; the last examples of texts are shorter."""
    return _draw_batch(task)


@functools.partial(jax.jit, static_argnums=0)
def _draw_batch(task: str) -> dict[str, jax.Array]:
    label, tokens = jax.random.split(jax.random.key(7))
    data = {"index": jnp.arange(ROWS) + 3, "view": jnp.zeros(ROWS, int), "mask": jnp.ones(ROWS)}
    if task in ("images", "derivatives"):
        return data | {"label": jax.random.randint(label, (ROWS,), 0, CLASSES)}
    if task in NUMBERS:
        target = jax.random.normal(label, (ROWS, TARGETS)).at[1, 0].set(jnp.nan)
        return data | {"label": jnp.zeros(ROWS, int), "target": target, "valid": data["mask"]}
    if task == "labels":
        labels = jax.random.bernoulli(label, 0.4, (ROWS, CLASSES)).astype(jnp.float32).at[1, 0].set(jnp.nan)
        return data | {"label": jnp.zeros(ROWS, int), "labels": labels, "valid": data["mask"]}
    if task == "pixels":
        return data | {"label": jax.random.randint(label, (ROWS, 4, 4), 0, CLASSES)}
    if task == "boxes":
        return data | _draw_boxes(label, tokens)
    lengths = jnp.array([7, 7, 5, 7, 4, 6])
    is_token = (jnp.arange(LENGTH)[None] < lengths[:, None]).astype(jnp.float32)
    text = {"tokens": jax.random.randint(tokens, (ROWS, LENGTH), 0, VOCABULARY), "token_mask": is_token}
    if task == "next_tokens":
        return align_next_tokens(data | text)
    masked = jax.random.bernoulli(label, 0.4, (ROWS, LENGTH)) & (is_token > 0)
    return data | text | {"label": jnp.where(masked.at[:, 1].set(True), text["tokens"], -1)}


def _draw_boxes(label_key: jax.Array, box_key: jax.Array) -> dict[str, jax.Array]:
    """Returns boxes of images of which one has none, the last box of others is padding, and one is a crowd."""
    corners = jnp.sort(jax.random.uniform(box_key, (ROWS, BOXES, 2, 2)), 2).reshape(ROWS, BOXES, 4)
    corners = jnp.clip(corners + jnp.array([[[-0.15, -0.15, 0.15, 0.15]]]), 0, 1)
    label = jax.random.randint(label_key, (ROWS, BOXES), 0, CLASSES).at[1:3, -1].set(-1).at[3].set(-1)
    crowd = jnp.zeros((ROWS, BOXES), int).at[0, 1].set(1)
    return {
        "image": jnp.zeros((ROWS, IMAGE, IMAGE, 3)),
        "boxes": jnp.where(label[..., None] >= 0, corners, 0.0),
        "box_label": label,
        "box_crowd": crowd,
        "label": jnp.where(crowd > 0, -1, label),
        "valid": jnp.ones(ROWS),
    }


def locations() -> np.ndarray:
    """Returns the locations of a toy detector, `[locations, 4]`."""
    levels = []
    for stride in STRIDES:
        y, x = np.meshgrid(*[np.arange(stride / 2, IMAGE, stride)] * 2, indexing="ij")
        levels.append(np.stack([y, x, *[np.full_like(y, stride)] * 2], -1).reshape(-1, 4))
    return (np.concatenate(levels) / IMAGE).astype(np.float32)


def with_mask(batch: Batch, mask: jax.Array | np.ndarray) -> dict[str, Any]:
    """Returns a batch with other examples masked, as a task prepares it."""
    masked = dict(batch) | {"mask": mask}
    valid = batch["valid"] * mask.reshape(-1, *[1] * (batch["valid"].ndim - 1)) if "valid" in batch else None
    return masked | ({} if valid is None else {"valid": valid})


@functools.cache
def output(task: str, seed: int, scale: float = 1.0, dtype: jnp.dtype = jnp.float32, wide: bool = False) -> Output:
    """Returns a random output; a `wide` one is that of a larger network, with other widths and more layers."""
    return _draw_output(task, seed, scale=scale, dtype=dtype, wide=wide)


@functools.partial(jax.jit, static_argnames=("task", "scale", "dtype", "wide"))
def _draw_output(
    task: str, seed: int, scale: float = 1.0, dtype: jnp.dtype = jnp.float32, wide: bool = False
) -> Output:
    parts = _shapes(task, wide)
    keys = jax.random.split(jax.random.key(seed), len(parts))
    drawn = {name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, parts.items(), strict=True)}
    taps = {name: (scale * value).astype(dtype) for name, value in drawn.items() if name != "logits"}
    if task == "boxes":
        grid = jnp.broadcast_to(jnp.array(locations(), dtype)[None], (ROWS, *locations().shape))
        edges = taps["distances"] = jnp.abs(taps["distances"])
        away = edges[..., jnp.array([1, 0, 3, 2])] * jnp.concatenate([grid[..., 2:]] * 2, -1)
        centre = jnp.concatenate([grid[..., :2]] * 2, -1)
        taps |= {"locations": grid, "boxes": centre + away * jnp.array([[[-1, -1, 1, 1]]], dtype)}
    return Output((scale * drawn["logits"]).astype(dtype), taps)


def _shapes(task: str, wide: bool) -> dict[str, tuple[int, ...]]:
    if task == "derivatives":
        return {"logits": (ROWS, CLASSES), "derivative": (ROWS, 3, CLASSES), "pooled": (ROWS, 8)}
    if task in NUMBERS:
        return {"logits": (ROWS, TARGETS * NUMBERS[task]), "pooled": (ROWS, 16 if wide else 8)}
    if task == "labels":
        return {"logits": (ROWS, CLASSES), "pooled": (ROWS, 16 if wide else 8)}
    if task == "boxes":
        places, sides, width = len(locations()), [IMAGE // stride for stride in STRIDES], 12 if wide else 6
        shapes = {"logits": (ROWS, places, CLASSES), "distances": (ROWS, places, 4), "centerness": (ROWS, places)}
        maps = {f"P{level + 5}": (ROWS, side, side, width) for level, side in enumerate(sides)}
        return shapes | {"edges": (ROWS, places, 4, BINS)} | maps
    if task in ("images", "pixels"):
        return {"logits": (ROWS, 4, 4, CLASSES) if task == "pixels" else (ROWS, CLASSES)} | _maps(2 if wide else 1)
    return {"logits": (ROWS, LENGTH, VOCABULARY)} | _blocks(*(4, 16) if wide else (2, 8))


def _maps(times: int) -> dict[str, tuple[int, ...]]:
    maps = {"stage1": (8, 8, 4), "stage2": (4, 4, 6), "stage3": (2, 2, 8)}
    maps = {name: (ROWS, height, width, channels * times) for name, (height, width, channels) in maps.items()}
    before = {f"{name}/preact": shape for name, shape in maps.items()}
    borrowed = {"projected": (ROWS, 2, 2, 8), "factor": (ROWS, 2, 2, 4)}
    return maps | before | borrowed | {"stem": maps["stage1"], "pooled": (ROWS, 8 * times)}


def _blocks(blocks: int, width: int) -> dict[str, tuple[int, ...]]:
    shapes = {"embed": (ROWS, LENGTH, width), "final": (ROWS, LENGTH, width), "pooled": (ROWS, width)}
    for block in range(blocks):
        shapes[f"block{block}"] = (ROWS, LENGTH, width)
        shapes[f"block{block}/scores"] = (ROWS, HEADS, LENGTH, LENGTH)
        for part in ("query", "key", "value"):
            shapes[f"block{block}/{part}"] = (ROWS, LENGTH, HEADS, width // HEADS)
    return shapes
