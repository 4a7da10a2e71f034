"""Tasks on images with dense labels: a class per pixel, or boxes."""

import dataclasses
from typing import ClassVar

from jaxdistill.tasks.image import ImageTask
from jaxdistill.tasks.task import Field

IMAGE = {"image": Field(("height", "width", "channels"), integer=False)}


@dataclasses.dataclass(frozen=True)
class DenseTask(ImageTask):
    """A task whose labels move with the image under augmentation."""

    figures: ClassVar[tuple[str, ...]] = ()
    keeps_size: ClassVar[bool] = True
