"""A view: weights within a bound."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from jaxdistill.compress.view import Arrays, Extra, View
from jaxdistill.config.parse import option


@dataclasses.dataclass(frozen=True)
class Bounded(View):
    """Weights of which none is larger than a bound."""

    bound: float = option(0.5, "largest magnitude", least=0)

    order: ClassVar[int] = 2

    def view(self, params: Arrays, extra: Extra) -> dict[str, Array]:
        bounded = {name: jnp.clip(params[name], -self.bound, self.bound) for name in self.selected(params)}
        return {**params, **bounded}
