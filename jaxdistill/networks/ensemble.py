"""An average of the outputs of several networks."""

import dataclasses
import math

import jax

from jaxdistill.config import registry
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError, check_names
from jaxdistill.modules import weightings
from jaxdistill.modules.averaged_logits import Average, average_logits
from jaxdistill.networks.options import NetworkRef, required
from jaxdistill.networks.source import Outputs, Source

AVERAGES = ("probabilities", "logits", "gaussian")


@dataclasses.dataclass(frozen=True)
class Ensemble(Source):
    """The average of several networks, over "logits", "probabilities", or the members' "gaussian" distributions.

    The last is the Gaussian with the mean and variance of the mixture of the members': Lakshminarayanan, Pritzel,
    Blundell, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NIPS 2017,
    https://arxiv.org/abs/1612.01474, section 2.4.

    The weights of an example are those of `weighting` times `member_weights`, made to sum to 1: "equal", "confidence",
    "entropy" or "agreement" (`modules.weightings`). In inference, which must not see labels, a weighting that reads
    them is "equal". No gradient flows through the weights; it does through the members' logits. Taps are those of
    the members, named `member/tap`.

    Of decoders the logits are computed and averaged where they are compared, a chunk at a time
    (`modules.averaged_logits`); members may also be caches of hidden states.
    """

    of: tuple[NetworkRef, ...] = required("members")
    average: str = option("probabilities", "quantity that is averaged: 'probabilities', 'logits' or 'gaussian'")
    weighting: str = option("equal", "weights by example: 'equal', 'confidence', 'entropy' or 'agreement'")
    member_weights: tuple[float, ...] = option((), "fixed weights of the members; equal if empty")

    def check(self) -> None:
        check_names("average", [self.average], AVERAGES)
        registry.find("weighting", self.weighting, "weighting")
        weights = self.member_weights
        if weights and not (len(weights) == len(self.of) and min(weights) >= 0 and 0 < sum(weights) < math.inf):
            raise UserError(
                f"member_weights must be {len(self.of)} numbers of at least 0, not all 0, got {self.member_weights}"
            )

    @property
    def reads_labels(self) -> bool:
        return weightings.reads_labels(registry.find("weighting", self.weighting))

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        weighting = registry.find("weighting", self.weighting)
        # In inference the labels must not be seen.
        label = batch["label"] if weightings.reads_labels(weighting) and key is not None else None
        members = [(name, outputs[name].logits) for name in self.of]
        logits = average_logits(members, label, Average(self.average, weighting, self.member_weights))
        taps = {f"{name}/{tap}": value for name in self.of for tap, value in outputs[name].taps.items()}
        return Output(logits, taps), {}
