"""A source: another network's output at a lower temperature."""

import dataclasses

import jax

from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import check_positive
from jaxdistill.networks.options import NetworkRef, required
from jaxdistill.networks.source import Outputs, Source


@dataclasses.dataclass(frozen=True)
class Sharpened(Source):
    """The logits of another network divided by a temperature, with its taps."""

    of: NetworkRef = required("network whose logits are divided")
    temperature: float = option(0.5, "divisor of the logits")

    def check(self) -> None:
        check_positive("temperature", self.temperature)

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        output = outputs[self.of]
        return output.replace(logits=output.logits / self.temperature), {}
