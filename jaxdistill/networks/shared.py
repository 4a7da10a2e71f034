"""A network on a second view, with shared weights."""

import dataclasses

import jax

from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.networks.source import Outputs
from jaxdistill.networks.trained import RunsModuleOf


@dataclasses.dataclass(frozen=True)
class Shared(RunsModuleOf):
    """Another network on another input, such as a second view: the same weights, the same mode.

    Its batch statistics are computed but not kept: the first pass alone moves the running averages.
    """

    input: str = option("image2", "field of the batch that it reads")
    evaluable = False

    @property
    def borrows(self) -> str:
        return self.of

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        network = dataclasses.replace(self.network, input=self.input)
        return network(variables["borrowed"], batch, outputs, key)[0], {}
