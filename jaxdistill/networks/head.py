"""A head on a tap of another network."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax

from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, Variables
from jaxdistill.modules.heads import TapHead
from jaxdistill.networks.options import NetworkRef, built, required, select
from jaxdistill.networks.source import Context, Outputs, Parts, Source, apply


@dataclasses.dataclass(frozen=True)
class HeadSettings:
    """Config keys of a head, besides the fields of the module of that name."""

    head: str = option("linear", "module on the tap by name: 'linear', 'none', 'pca', 'paraphraser'")
    frozen: bool | None = option(None, "whether it was trained or fitted in another stage; 'pca' is unless set")


@dataclasses.dataclass(frozen=True)
class Head(Source):
    """A module on a tap of another network: an early exit, a paraphraser of features, a projection of them.

    Zhang et al., "Be Your Own Teacher", ICCV 2019, https://arxiv.org/abs/1905.08094. Gradients flow into the
    network that it is put on. A frozen one was trained, or fitted, in another stage.
    """

    of: NetworkRef = required("network that it is put on")
    tap: str = required("tap of that network")
    head: TapHead = built()
    frozen: bool = False
    evaluated_by_default = False
    settings = HeadSettings

    @classmethod
    def build(cls, name: str, options: Mapping[str, Any], context: Context) -> Self:
        settings = HeadSettings(**select(HeadSettings, options))
        member = registry.find("head", settings.head, f"networks.{name}.head")
        keys = cls.option_fields()
        given = {"classes": context.classes, "dtype": registry.dtype(options.get("dtype", "float32"))}
        given = {key: value for key, value in given.items() if key in member.__dataclass_fields__}
        fields = {key: value for key, value in options.items() if key not in keys and key != "dtype"}
        head = registry.make("head", settings.head, fields, **given)
        frozen = head.fitted if settings.frozen is None else settings.frozen
        return cls(**select(cls, options), head=head, frozen=frozen)

    def check(self) -> None:
        self.head.check()

    @property
    def learns(self) -> bool:
        return self.head.learns and not self.frozen

    @property
    def fitted(self) -> bool:
        return self.head.fitted

    def init(self, key: jax.Array, batch: Batch, outputs: Outputs, variables: Mapping[str, Variables]) -> Variables:
        return self.head.init(key, outputs[self.of].tap(self.tap), train=False)

    def partition(self, variables: Variables) -> Parts:
        params, rest = core.split_params(variables)
        return ({}, {}, variables) if self.frozen else (params, rest, {})

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        whole = outputs[self.of]
        output, changed = apply(self.head, variables, whole.tap(self.tap), None if self.frozen else key)
        if self.head.keeps_outputs:
            output = dataclasses.replace(whole, taps=dict(whole.taps) | dict(output.taps))
        return output, changed
