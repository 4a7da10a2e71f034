"""A network that said what it has to say in an earlier stage: its answers are read, nothing runs."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Output, TopK
from jaxdistill.networks.source import Source

TAILS = ("uniform", "bucket")


@dataclasses.dataclass(frozen=True)
class Cached(Source):
    """What a cache holds of each example of the batch, in the view that the batch shows.

    The loader has put the answers into the batch, as `cached/NAME/logits` or, of a top-k, `cached/NAME/values`, `ids`
    and `log_rest`, and `cached/NAME/tap/TAP` for each tap.

    Attributes:
        name: of this network, by which it finds its answers.
        classes: how many it distinguishes.
        tail: what becomes of the classes that a top-k does not list: "bucket" says a `core.TopK`, which is exact, for
            methods that take one; "uniform" says logits in which each of them has the same share of what is left, for
            all methods. That is an approximation, exact where one class is left or none.
    """

    name: str
    classes: int
    tail: str = "uniform"
    frozen = True
    differentiable = False

    def __call__(self, variables, batch, outputs, key):
        start = f"{core.CACHED}{self.name}/"
        own = {name.removeprefix(start): x for name, x in batch.items() if name.startswith(start)}
        precise = {name: core.precise(x) for name, x in own.items() if name != "ids"}
        taps = {name.removeprefix("tap/"): x for name, x in precise.items() if name.startswith("tap/")}
        if "logits" in precise:
            return Output(precise["logits"], taps), {}
        said = TopK(precise["values"], own["ids"].astype(jnp.int32), precise["log_rest"], self.classes)
        return Output(said if self.tail == "bucket" else uniform_tail(said), taps), {}


def uniform_tail(said: TopK) -> jax.Array:
    """Returns log-probabilities `[*n, classes]` of which those that are not listed share the rest evenly."""
    others = max(said.num_classes - said.ids.shape[-1], 1)
    each = jnp.broadcast_to(said.log_rest[..., None], (*said.log_rest.shape, said.num_classes)) - jnp.log(float(others))
    return jnp.put_along_axis(each, said.ids, said.values, -1, inplace=False)
