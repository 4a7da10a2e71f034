"""Functions of networks on some examples of the split of a stage: the images that the report shows."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from jaxdistill.build.stage import Stage
from jaxdistill.core import Batch, Variables
from jaxdistill.data import loader
from jaxdistill.data.subsets import Subset
from jaxdistill.networks import dependencies
from jaxdistill.runtime import preemption
from jaxdistill.train import mesh
from jaxdistill.train.evaluate import run_outputs

BATCH = 64
"""The largest number of examples in a batch, about: a gradient stores activations that an evaluation drops."""

PICTURES = 8
"""The largest number of evenly spaced examples whose predictions the report draws."""


def choose_evenly(count: int, most: int) -> np.ndarray:
    """Returns positions of at most `most` of `count` examples, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def compile_rows(
    stage: Stage, compute: Callable[[Mapping[str, Variables], Batch], Any]
) -> Callable[..., tuple[Any, jax.Array]]:
    """Compiles a function of variables and a prepared batch, `[batch, ...]`; the result takes a raw batch.

    It also returns the mask of the examples that are real.
    """

    def compute_batch(variables: Mapping[str, Variables], raw: Batch) -> tuple[Any, jax.Array]:
        batch = stage.data.prepare(raw)
        return compute(variables, batch), batch["mask"]

    return jax.jit(mesh.traced_on(stage.mesh, compute_batch), out_shardings=mesh.replicated(stage.mesh))


def over_examples(
    stage: Stage, compiled: Callable[..., Any], variables: Mapping[str, Variables], index: np.ndarray
) -> Any:
    """Returns the rows of a function of `compile_rows` for examples of the split, in the order of `index`."""
    chosen = Subset(stage.data.dataset.split(stage.settings.evaluate.split), index.astype(np.int32))
    devices = mesh.num_blocks(stage.mesh)
    most = min(BATCH, len(index), stage.data.evaluation_batch_size)
    size = devices * max(1, -(-most // devices))
    parts = []
    for raw in preemption.checked(loader.iterate_once(chosen, size, stage.data.dataset.classes, stage.data.process)):
        rows, mask = jax.device_get(compiled(variables, mesh.put(stage.mesh, raw)))
        parts.append(jax.tree.map(lambda x, is_real=mask > 0: x[is_real], rows))
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def compute_pictures(stage: Stage, variables: Mapping[str, Variables]) -> dict[str, np.ndarray]:
    """Returns the arrays from which the report draws predictions, if the task has any.

    They are, of evenly spaced examples, `sheet/index`, `sheet/FIELD` for the fields that the task draws, and
    `KIND/NETWORK` for each array of `Task.picture`.
    """
    task, names = stage.data.task, stage.evaluation.networks
    if not task.pictured_fields:
        return {}
    split = stage.data.dataset.split(stage.settings.evaluate.split)
    index = choose_evenly(len(split), PICTURES)
    running = dependencies(stage.networks, names)

    def compute(variables: Mapping[str, Variables], batch: Batch) -> dict[str, dict[str, jax.Array]]:
        outputs = run_outputs(running, variables, batch, window=stage.settings.evaluate.window, names=tuple(names))
        return {name: task.picture(outputs[name], batch) for name in names}

    rows = over_examples(stage, compile_rows(stage, compute), variables, index)
    fields = {f"sheet/{field}": array for field, array in split.take(index).items() if field in task.pictured_fields}
    fields["sheet/image"] = to_bytes(fields["sheet/image"])
    return {"sheet/index": index} | fields | {f"{kind}/{n}": x for n in names for kind, x in rows[n].items()}


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Returns images as uint8, of those in [0, 1] too."""
    return image if image.dtype == np.uint8 else np.round(255 * image.clip(0, 1)).astype(np.uint8)
