"""The outputs of a network that were cached in an earlier stage."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.config.parse import option
from jaxdistill.core import Batch, Output, TopK, Unembedding, Variables
from jaxdistill.errors import check_names
from jaxdistill.modules.drawn_classes import DrawnClasses
from jaxdistill.networks.options import required, select
from jaxdistill.networks.source import Context, Outputs, Parts, Source

TAILS = ("uniform", "bucket")


@dataclasses.dataclass(frozen=True)
class CachedSettings:
    """Config keys of a cached network that are read before it is built."""

    cache: str = required("cache: 'stage:NAME' or the folder of a stage")
    teacher: str = option("", "weights that the cache must have been made of; any if empty")


@dataclasses.dataclass(frozen=True)
class Cached(Source):
    """The cached outputs for the examples of the batch, in the view that the batch shows.

    The loader has put them into the batch, as `cached/NAME/logits`, and `cached/NAME/tap/TAP` for each tap. Other forms
    of logits are `values`, `ids` and `log_rest` of a top-k; `ids` and `negative_entropy` of drawn classes; and `hidden`
    states, with the `scale` of int8, whose logits are an `Unembedding` with kernel and bias as frozen variables.

    Attributes:
        name: of this network.
        classes: number of classes.
        shared: shapes of the kernel and the bias of hidden states; none of other forms.
        tail: form of a top-k. "bucket" is a `core.TopK`, which is exact, for methods that take one; "uniform" is dense
            logits with the same probability for each class that is not listed, for all methods: an approximation,
            exact if at most one class is not listed.
    """

    name: str
    classes: int
    tail: str = option("uniform", "classes that a top-k does not list: 'uniform' or 'bucket'")
    shared: Mapping[str, jax.ShapeDtypeStruct] = dataclasses.field(default_factory=dict)
    frozen = True
    differentiable = False
    computed = False
    settings = CachedSettings

    @classmethod
    def build(cls, name: str, options: Mapping[str, Any], context: Context) -> Self:
        cached = context.cached[name]
        return cls(name, cached.classes, shared=cached.shared, **select(cls, options))

    def check(self) -> None:
        check_names("tail", [self.tail], TAILS)

    def init(self, key: jax.Array, batch: Batch, outputs: Outputs, variables: Mapping[str, Variables]) -> Variables:
        arrays = {name: jnp.zeros(x.shape, x.dtype) for name, x in self.shared.items()}
        return {"unembedding": arrays} if arrays else {}

    def partition(self, variables: Variables) -> Parts:
        return {}, {}, variables

    def __call__(
        self, variables: Variables, batch: Batch, outputs: Outputs, key: jax.Array | None
    ) -> tuple[Output, Variables]:
        start = f"{core.CACHED}{self.name}/"
        arrays = {name.removeprefix(start): x for name, x in batch.items() if name.startswith(start)}
        precise = {name: core.precise(x) for name, x in arrays.items() if name not in ("ids", "hidden")}
        taps = {name.removeprefix("tap/"): x for name, x in precise.items() if name.startswith("tap/")}
        if "logits" in precise:
            return Output(precise["logits"], taps), {}
        if "hidden" in arrays:
            return Output(_unembed(arrays, variables["unembedding"]), taps), {}
        if "negative_entropy" in precise:
            ids = arrays["ids"].astype(jnp.int32)
            return Output(DrawnClasses(ids, precise["negative_entropy"], self.classes), taps), {}
        top_k = TopK(precise["values"], arrays["ids"].astype(jnp.int32), precise["log_rest"], self.classes)
        return Output(top_k if self.tail == "bucket" else with_uniform_tail(top_k), taps), {}


def _unembed(arrays: Mapping[str, jax.Array], shared: Mapping[str, jax.Array]) -> Unembedding:
    """Returns the logits of stored hidden states, which are in the dtype of the kernel as they were."""
    hidden, kernel = arrays["hidden"], shared["kernel"]
    if "scale" in arrays:
        hidden = hidden.astype(jnp.float32) * arrays["scale"][..., None]
    return Unembedding(hidden.astype(kernel.dtype), kernel, shared.get("bias"))


def with_uniform_tail(logits: TopK) -> jax.Array:
    """Returns log-probabilities `[*n, classes]`, with equal ones for the classes that are not listed."""
    unlisted = max(logits.num_classes - logits.ids.shape[-1], 1)
    shape = (*logits.log_rest.shape, logits.num_classes)
    tail = jnp.broadcast_to(logits.log_rest[..., None], shape) - jnp.log(float(unlisted))
    return jnp.put_along_axis(tail, logits.ids, logits.values, -1, inplace=False)
