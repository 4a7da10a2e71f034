"""The outputs of a network that were cached in an earlier stage."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, TopK, Variables
from jaxdistill.errors import check_names
from jaxdistill.networks.options import required, select
from jaxdistill.networks.source import Context, Outputs, Source

TAILS = ("uniform", "bucket")


@dataclasses.dataclass(frozen=True)
class CachedSettings:
    """Config keys of a cached network that are read before it is built."""

    cache: str = required("cache: 'stage:NAME' or the folder of a stage")
    teacher: str = option("", "weights that the cache must have been made of; any if empty")


@dataclasses.dataclass(frozen=True)
class Cached(Source):
    """The cached outputs for the examples of the batch, in the view that the batch shows.

    The loader has put them into the batch, as `cached/NAME/logits` or, of a top-k, `cached/NAME/values`, `ids` and
    `log_rest`, and `cached/NAME/tap/TAP` for each tap.

    Attributes:
        name: of this network.
        classes: number of classes.
        tail: form of a top-k. "bucket" is a `core.TopK`, which is exact, for methods that take one; "uniform" is dense
            logits with the same probability for each class that is not listed, for all methods: an approximation,
            exact if at most one class is not listed.
    """

    name: str
    classes: int
    tail: str = option("uniform", "classes that a top-k does not list: 'uniform' or 'bucket'")
    frozen = True
    differentiable = False
    settings = CachedSettings

    @classmethod
    def build(cls, name: str, options: Mapping[str, Any], context: Context) -> Self:
        return cls(name, context.cached_classes[name], **select(cls, options))

    def check(self) -> None:
        check_names("tail", [self.tail], TAILS)

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        start = f"{core.CACHED}{self.name}/"
        arrays = {name.removeprefix(start): x for name, x in batch.items() if name.startswith(start)}
        precise = {name: core.precise(x) for name, x in arrays.items() if name != "ids"}
        taps = {name.removeprefix("tap/"): x for name, x in precise.items() if name.startswith("tap/")}
        if "logits" in precise:
            return Output(precise["logits"], taps), {}
        top_k = TopK(precise["values"], arrays["ids"].astype(jnp.int32), precise["log_rest"], self.classes)
        return Output(top_k if self.tail == "bucket" else with_uniform_tail(top_k), taps), {}


def with_uniform_tail(logits: TopK) -> jax.Array:
    """Returns log-probabilities `[*n, classes]`, with equal ones for the classes that are not listed."""
    unlisted = max(logits.num_classes - logits.ids.shape[-1], 1)
    shape = (*logits.log_rest.shape, logits.num_classes)
    tail = jnp.broadcast_to(logits.log_rest[..., None], shape) - jnp.log(float(unlisted))
    return jnp.put_along_axis(tail, logits.ids, logits.values, -1, inplace=False)
