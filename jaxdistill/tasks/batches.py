"""Prepared batches of a dataset, for use as a library."""

import itertools
from collections.abc import Iterator

import jax

from jaxdistill.core import Batch
from jaxdistill.data import loader
from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks import Task, find
from jaxdistill.tasks.image import ImageTask


def batches(
    dataset: Dataset,
    role: str = "train",
    *,
    batch: int,
    steps: int = 0,
    seed: int = 0,
    augment: tuple[str, ...] = (),
    views: int = 1,
    task: str = "",
) -> Iterator[Batch]:
    """Yields batches as networks and methods take them: standardised, augmented and aligned by the task.

    A batch has the inputs of the task, such as `image` `[batch, height, width, channels]`, `label` and `valid` `[*n]`,
    and `index`, `view` and `mask` `[batch]`. Batch number s is a pure function of (seed, s).

    Args:
        dataset: of `data.datasets.load`.
        role: of the split; "train" is sampled without end, any other is yielded once in order.
        batch: examples of a batch; the last one of a split that is yielded once is padded, with `mask` 0.
        steps: the number of batches; 0 for no end.
        seed: of order and augmentation.
        augment: names of augmentations, such as `("pad_crop:4", "flip")`, for "train".
        views: number of augmented views of each example.
        task: by name; by default it follows from the dataset.

    Raises:
        UserError: for an unknown role, task or augmentation.
    """
    kind = find(dataset, task)
    aligned: Task = kind(dataset, augmentations=augment, views=views) if issubclass(kind, ImageTask) else kind(dataset)
    aligned.check_dataset()
    split = dataset.split(role)
    if role != "train":
        prepare = jax.jit(aligned.prepare)
        raw = loader.iterate_once(split, batch, dataset.classes)
        yield from map(prepare, itertools.islice(raw, steps or None))
        return
    make = loader.Streamed if split.is_mapped else loader.Resident.of
    reader = make(split, seed=seed, batch=batch, classes=dataset.classes)
    change = aligned.augment(seed=seed)
    step = jax.jit(lambda resident, inputs: change(reader.make_batch(resident, inputs)))
    resident = jax.device_put(dict(reader.resident))
    for inputs in reader.step_inputs(0, steps or loader.NEVER):
        yield step(resident, inputs)
