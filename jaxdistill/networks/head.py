"""A head on what another network says inside."""

import dataclasses

import flax.linen as nn

from jaxdistill import core
from jaxdistill.core import Output
from jaxdistill.networks.source import Source, apply


@dataclasses.dataclass(frozen=True)
class Head(Source):
    """A head on a tap of another network: an early exit, a paraphraser of features, a projection of them.

    Zhang et al., "Be Your Own Teacher", ICCV 2019, https://arxiv.org/abs/1905.08094. Gradients flow into the
    network it leaves. With `head=None` the tap itself is taken for logits. A frozen one was trained, or fitted, in
    another stage.
    """

    of: str
    tap: str
    head: nn.Module | None
    frozen: bool = False

    @property
    def learns(self):
        return self.head is not None and not self.frozen

    @property
    def needs(self):
        return (self.of,)

    def init(self, key, batch, outputs, known):
        if self.head is None:
            outputs[self.of].tap(self.tap)
            return {}
        return self.head.init(key, outputs[self.of].tap(self.tap), train=False)

    def place(self, variables):
        params, rest = core.split_params(variables)
        return ({}, {}, variables) if self.frozen else (params, rest, {})

    def __call__(self, variables, batch, outputs, key):
        tap = outputs[self.of].tap(self.tap)
        if self.head is None:
            return Output(tap), {}
        output, changed = apply(self.head, variables, tap, None if self.frozen else key)
        if getattr(self.head, "beside", False):
            whole = outputs[self.of]
            output = whole.replace(taps=dict(whole.taps) | dict(output.taps))
        return output, changed
