"""Tasks whose examples are rows of tables, as features."""

from typing import ClassVar

from jaxdistill.tasks.task import Field, Task


class TableTask(Task):
    """A task on `features`, float32 `[width]`, which the dataset's transforms have made."""

    fields: ClassVar = {"features": Field(("width",), integer=False), "label": Field()}
    inputs: ClassVar = ("features",)
