"""Tasks whose examples are images: standardisation and augmentation."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from jaxdistill.config.schema import DataConfig
from jaxdistill.core import Batch
from jaxdistill.data import augment, loader
from jaxdistill.data.build import standardisation
from jaxdistill.data.dataset import Dataset
from jaxdistill.data.images import check_channels_last
from jaxdistill.networks import ImageSpec
from jaxdistill.tasks.task import Task

PICTURES = ("disagreements", "saliency")
"""Sections of the report that show images of a class."""

DRAWN = (*PICTURES, "label_maps", "boxes")
"""Sections of the report that show images."""


@dataclasses.dataclass(frozen=True)
class ImageTask(Task):
    """A task on images, which are standardised by channel.

    Attributes:
        mean: by channel, of images in [0, 1]; measured on the training split if empty.
        std: the same.
        augmentations: names in order, as `"pad_crop:4"`.
        views: number of augmented views of each example.

    Class attributes:
        moving: fields of labels that move with the image.
        mixed: fields of labels that are mixed as images are; a class if there are none.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augmentations: tuple[str, ...] = ()
    views: int = 1

    inputs: ClassVar[tuple[str, ...]] = ("image",)
    moving: ClassVar[tuple[str, ...]] = ()
    mixed: ClassVar[tuple[str, ...]] = ()
    figures: ClassVar[tuple[str, ...]] = PICTURES

    def __post_init__(self) -> None:
        if tuple(self.dataset.shape[-1:]) not in ((1,), (3,)):  # the report has no picture of other channels
            object.__setattr__(self, "figures", tuple(name for name in self.figures if name not in DRAWN))
        if not self.mean:
            mean, std = loader.statistics(self.dataset.split("train"))
            object.__setattr__(self, "mean", mean)
            object.__setattr__(self, "std", std)

    @classmethod
    def make(cls, dataset: Dataset, data: DataConfig) -> "ImageTask":
        mean, std = standardisation(data)
        task = cls(dataset, mean, std, augmentations=tuple(data.augment), views=data.views)
        task.check_dataset()
        return task

    def check_dataset(self) -> None:
        super().check_dataset()
        check_channels_last(self.dataset.shape, f"the images of {self.dataset.name!r}")

    @property
    def image_spec(self) -> ImageSpec:
        return ImageSpec(tuple(self.dataset.shape), self.mean, self.std)

    def network_inputs(self, *, augmented: bool) -> list[str]:
        return ["image", *(f"image{view}" for view in range(2, self.views + 1) if augmented)]

    def prepare(self, batch: Batch) -> Batch:
        return self.align(augment.plain(self.mean, self.std)(batch))

    def augment(self, *, seed: Any) -> Callable[[Batch], Batch]:
        change = augment.build(
            self.augmentations,
            seed=seed,
            classes=self.num_classes,
            mean=self.mean,
            std=self.std,
            views=self.views,
            moving=self.moving,
            mixed=self.mixed,
        )
        return lambda batch: self.align(change(batch))
