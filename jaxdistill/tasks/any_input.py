"""Tasks that are the same for images, texts and rows of tables."""

import functools
from collections.abc import Mapping
from typing import ClassVar

from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks.dense import IMAGE
from jaxdistill.tasks.image import ImageTask
from jaxdistill.tasks.table import TableTask
from jaxdistill.tasks.task import Field, Task
from jaxdistill.tasks.text import TEACHER_FIELDS, TEXT_FIELDS, TextTask

INPUTS: Mapping[str, tuple[type[Task], Mapping[str, Field]]] = {
    "image": (ImageTask, IMAGE),
    "tokens": (TextTask, TEXT_FIELDS | TEACHER_FIELDS),
    "features": (TableTask, TableTask.fields),
}
"""The task of an input and the fields of its examples, by the main field."""


class AnyInputTask(Task):
    """A task whose inputs the dataset determines.

    Class attributes:
        supervision: fields of an example beside its inputs.
        mixed: those that `mixup` mixes as it does images.
    """

    supervision: ClassVar[Mapping[str, Field]] = {}
    mixed: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def for_dataset(cls, dataset: Dataset) -> type[Task]:
        """Returns the task on the examples of a dataset; rows of tables if it has none of the others."""
        return cls.for_input(next((field for field in INPUTS if field in dataset.fields), "features"))

    @classmethod
    @functools.cache
    def for_input(cls, field: str) -> type[Task]:
        """Returns the task on images, texts or rows of tables, by the main field of an example."""
        task, fields = INPUTS[field]
        members = {"fields": {**fields, **cls.supervision}, "__module__": cls.__module__, "__doc__": cls.__doc__}
        return type(cls.__name__, (cls, task), members)
