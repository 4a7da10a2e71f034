"""Tasks: one class per file, found by the name of its file.

A task is what the examples of a dataset mean: the fields of an example, their preparation and augmentation on the
device, what one prediction is, the label of each prediction, the metrics, and the networks and methods that fit.
"""

from jaxdistill.config import registry
from jaxdistill.data.dataset import Dataset
from jaxdistill.errors import UserError
from jaxdistill.tasks.task import StageParts, Task

__all__ = ["StageParts", "Task", "find"]


def find(dataset: Dataset, name: str = "") -> type[Task]:
    """Returns the class of a task.

    Args:
        dataset: its fields determine the task if no name is given.
        name: of a file in `tasks/`, or `"package.module:Name"`.

    Raises:
        UserError: for an unknown name, and for a dataset that no task follows from.
    """
    if name:
        return registry.find("task", name).for_dataset(dataset)
    for candidate in (registry.find("task", option) for option in registry.names("task")):
        if candidate.is_default_for(dataset):
            return candidate.for_dataset(dataset)
    raise UserError(
        f"task must be set for a dataset with the fields {[*dataset.fields]}, got ''. Choose one of"
        f" {registry.names('task')}."
    )
