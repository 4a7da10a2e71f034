"""A student's features through the rest of its teacher's detection head."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from jaxdistill import core
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.errors import UserError, check_between
from jaxdistill.modules import adapters
from jaxdistill.networks.options import NetworkRef, required
from jaxdistill.networks.source import Outputs, Parts, Source

BRANCHES = ("class", "box")


class Aligners(nn.Module):
    """A 1x1 convolution of each tower from the student's channels to the teacher's, shared by all levels.

    Attributes:
        width: channels of the teacher.
    """

    width: int

    @nn.compact
    def __call__(self, maps: list[dict[str, jax.Array]]) -> list[dict[str, jax.Array]]:
        convs = [adapters.conv(self.width, 1, name=branch) for branch in BRANCHES]
        return [{level: conv(x) for level, x in tower.items()} for conv, tower in zip(convs, maps, strict=True)]


@dataclasses.dataclass(frozen=True)
class CrossedHead(Source):
    """A student's features in the middle of its towers, through the rest of its teacher's detection head.

    Wang et al., "CrossKD: Cross-Head Knowledge Distillation for Object Detection", CVPR 2024,
    https://arxiv.org/abs/2306.11369. No gradient moves the teacher's head. The paper's towers have equal channels; if
    they differ, a learned 1x1 convolution for each tower gives the student's features the teacher's. Its output is that
    of a detector, without the maps of a pyramid.

    Attributes:
        head: the teacher's head, a module; `bind` sets it.
        aligns: whether the channels of the two heads differ; `bind` sets it.
        base: the student; `bind` sets it.
    """

    of: NetworkRef = required("student")
    teacher: NetworkRef = option("teacher", "network whose detection head is crossed")
    crossing: int = option(-1, "convolutions of the student's towers before the crossing; all but the last if -1")
    head: Any = dataclasses.field(default=None, repr=False, kw_only=True)
    aligns: bool = dataclasses.field(default=False, repr=False, kw_only=True)
    base: Any = dataclasses.field(default=None, repr=False, kw_only=True)
    evaluated_by_default = False
    needs_fields = ("image",)

    @property
    def learns(self) -> bool:
        return self.aligns

    @property
    def borrows(self) -> str:
        return self.teacher

    def bind(self, networks: Mapping[str, Source]) -> Source:
        modules: dict[str, Any] = {name: getattr(networks[name], "module", None) for name in (self.of, self.teacher)}
        for name, module in modules.items():
            if not hasattr(module, "make_head"):
                raise UserError(
                    f"networks of a crossed head must be detectors such as model 'fcos', got {name!r}. Set of and"
                    " teacher"
                )
        left, right = (modules[name].make_head() for name in (self.of, self.teacher))
        crossing = self.crossing if self.crossing >= 0 else max(1, left.tower - 1)
        check_between("crossing", crossing, 1, min(left.tower, right.tower))
        aligns = left.width != right.width
        return dataclasses.replace(self, crossing=crossing, head=right, aligns=aligns, base=networks[self.of])

    def init(self, key: jax.Array, batch: Batch, outputs: Outputs, variables: Mapping[str, Variables]) -> Variables:
        return Aligners(self.head.width).init(key, self._maps(outputs)) if self.aligns else {}

    def partition(self, variables: Variables) -> Parts:
        params, rest = core.split_params(variables)
        return params, rest, {}

    def _maps(self, outputs: Outputs) -> list[dict[str, jax.Array]]:
        """Returns the student's features before the crossing, by tower and level, the finest level first."""
        taps = outputs[self.of].taps
        names = [name for name in taps if name.endswith(f"/{BRANCHES[0]}{self.crossing}")]
        levels = sorted((name.partition("/")[0] for name in names), key=lambda level: int(level[1:]))
        return [
            {level: core.precise(taps[f"{level}/{branch}{self.crossing}"]) for level in levels} for branch in BRANCHES
        ]

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        params = variables["borrowed"].get("params", {}).get("head")
        if params is None:
            raise UserError(f"the teacher of a crossed head must have params 'head', got {self.teacher!r}")
        maps = self._maps(outputs)
        if self.aligns:
            maps = Aligners(self.head.width).apply({"params": variables["params"]}, maps)
        images = self.base.main_input(batch).shape[1:3]
        output = self.head.apply({"params": jax.lax.stop_gradient(params)}, *maps, images, start=self.crossing)
        return output.in_float32(), {}
