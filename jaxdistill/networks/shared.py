"""Another network once more."""

import dataclasses

from jaxdistill.networks.source import Source
from jaxdistill.networks.trained import Trained


@dataclasses.dataclass(frozen=True)
class Shared(Source):
    """Another network once more, on another input (a second view): the same weights, the same mode.

    Its batch statistics are computed but not kept: the first pass alone moves the running averages.
    """

    leader: Trained
    of: str
    input: str = "image2"

    @property
    def needs(self):
        return (self.of,)

    @property
    def reads(self):
        return self.of

    def __call__(self, variables, batch, outputs, key):
        output, _ = dataclasses.replace(self.leader, input=self.input)(variables, batch, outputs, key)
        return output, {}
