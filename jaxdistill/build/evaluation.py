"""The evaluation of a stage as data: its networks, metrics and comparisons."""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

from jaxdistill.config.schema import EvaluateConfig
from jaxdistill.errors import UserError
from jaxdistill.metrics import Metric
from jaxdistill.tasks import Task
from jaxdistill.tasks.task import AUTO


@dataclasses.dataclass(frozen=True)
class StageEvaluation:
    """The evaluation of a stage.

    Attributes:
        stage: the name of the stage.
        settings: the section `evaluate`, the stage's own or the config's.
        task: determines the metrics.
        networks: the networks that are measured.
        reference: the network that fidelity is measured against; "" for none.
        pairs: the pairs `(network, reference)` that are compared besides.
    """

    stage: str
    settings: EvaluateConfig
    task: Task
    networks: Sequence[str]
    reference: str
    pairs: Sequence[tuple[str, str]]

    @functools.cached_property
    def metrics(self) -> dict[str, Metric]:
        """The metrics by name.

        Raises:
            UserError: for one that does not fit the task, with the stage, whose own section counts before the config's.
        """
        try:
            names = self.settings.metrics
            lists = (self.task.default_metrics if name == AUTO else (name,) for name in names)
            return {name: self.task.metric(name) for name in itertools.chain(*lists)}
        except UserError as error:
            raise UserError(f"stage {self.stage!r}: {error}") from error

    @property
    def fidelity_metrics(self) -> dict[str, Metric]:
        """The metrics that compare with a reference."""
        return {name: metric for name, metric in self.metrics.items() if metric.needs_reference}

    @property
    def measured_reference(self) -> str:
        """The reference if a metric needs one, else ""."""
        return self.reference if self.fidelity_metrics else ""

    @property
    def compared(self) -> list[str]:
        """The networks that are measured, and those of the pairs."""
        return [*dict.fromkeys([*self.networks, *(name for pair in self.pairs for name in pair)])]

    @property
    def needed(self) -> list[str]:
        """The networks whose outputs it needs; none if it measures none."""
        reference = [self.measured_reference] if self.measured_reference else []
        return [*dict.fromkeys([*self.compared, *reference])] if self.networks else []

    @property
    def ranking(self) -> list[str]:
        """The numbers `NETWORK/METRIC` that a checkpoint can be best by, the student's first."""
        rows = sorted(self.networks, key=lambda name: name != "student")
        able = [n for n, m in self.metrics.items() if m.better and (self.reference or not m.needs_reference)]
        able = sorted(able, key=lambda name: name not in self.task.preferred)
        return [f"{row}/{name}" for row in rows for name in able]

    @property
    def draws_saliency(self) -> bool:
        """Whether it draws saliency maps, which exist for some tasks."""
        return self.settings.saliency and "saliency" in self.task.figures
