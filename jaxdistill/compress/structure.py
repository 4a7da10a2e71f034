"""Structured pruning: filters, heads and hidden units are removed, and arrays are really smaller.

Layers that share units are found by tracing the network (`unit_groups`), so that no model declares them; the module is
applied to the smaller arrays under an interceptor (`resized_layers`). The number of units follows from shapes alone:

    kept units of a group = keep * units, to the nearest multiple of `multiple_of`, at least `least`

with `keep` the largest fraction that meets `target`, if there is one. The units of the largest importance stay
(`importance`), in their order. A removed unit computes what it would with all its weights zero, so fine-tuning or
distillation starts from the network with these units masked; with `width`, norms see fewer units. Whole blocks are left
out by a model with fewer of them, in a stage of kind "inherit".

Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023, https://arxiv.org/abs/2301.12900, finds such groups
in PyTorch's graph of gradients.
"""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict
from jax.extend import core as jex
from jaxtyping import Array, Int

from jaxdistill.compress import importance, unit_groups
from jaxdistill.compress.resized_layers import apply_resized
from jaxdistill.compress.unit_groups import Group, Units
from jaxdistill.compress.view import Arrays, Calibration, Extra, Interceptor, Model, Shapes, View
from jaxdistill.config.parse import option
from jaxdistill.core import Variables
from jaxdistill.errors import UserError, unknown

COSTS = ("parameters", "flops", "bytes")
PROGRAMS = (jex.Jaxpr, jex.ClosedJaxpr)
Sizes = dict[str, int]
"""group -> number of units that stay."""


@dataclasses.dataclass(frozen=True)
class Structure(View):
    """Removes units of every layer that they belong to."""

    match: str = option("", "regular expression of the names of arrays of groups of units; all groups if empty")
    keep: float = option(0.5, "fraction of the units of each group that stays, above 0 and at most 1")
    target: dict[str, float] = option(dict, "fractions of 'parameters', 'flops' or 'bytes', in place of keep")
    importance: str = option("magnitude", "choice of the units", choices=importance.RULES)
    width: bool = option(False, "whether units of residual streams and embeddings are removed, too")
    least: int = option(1, "least number of units of a group that stay", least=1)
    multiple_of: int = option(1, "number that the units of a group are a multiple of, for the device", least=1)

    order: ClassVar[int] = 0
    resizes: ClassVar[bool] = True

    def check(self, params: Shapes) -> None:
        if not 0 < self.keep <= 1:
            raise UserError(f"keep must be in (0, 1], got {self.keep}. Use 0.5 for half of the units")
        for cost, fraction in self.target.items():
            if cost not in COSTS:
                raise unknown("target", cost, COSTS, "a cost")
            if not 0 < fraction <= 1:
                raise UserError(f"target.{cost} must be in (0, 1], got {fraction}. It is a fraction of the network's")
        self.check_pattern()

    def resize(self, variables: Arrays, model: Model) -> dict[str, Array]:
        """Returns smaller arrays, of the units whose weights are largest."""
        units, groups, sizes = self.plan(variables, model)
        return _take_best(variables, units, _magnitudes(variables, groups), sizes)

    def fit(self, variables: Arrays, calibration: Calibration) -> tuple[dict[str, Array], Extra]:
        model = calibration.model()
        units, groups, sizes = self.plan(variables, model)
        nested: Variables = unflatten_dict(dict(variables), sep="/")
        if self.importance == "magnitude":
            scores = jax.jit(lambda variables: _magnitudes(variables, groups))(dict(variables))
        else:
            for group in groups.values():
                importance.check_readers(group)
            measure = importance.activation if self.importance == "activation" else importance.taylor
            scores = measure(calibration, nested, groups)
        take = jax.jit(lambda variables, scores: _take_best(variables, units, scores, sizes))
        return take(dict(variables), scores), Extra()

    def intercept(self, extra: Extra) -> Interceptor:
        return apply_resized

    def plan(self, variables: Shapes, model: Model) -> tuple[Units, dict[str, Group], Sizes]:
        """Returns the units of a network, the groups from which some are removed, and how many of each stay.

        Raises:
            UserError: if no group matches, the target cannot be reached, or the module cannot have such arrays.
        """
        shapes = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in variables.items()}
        nested = unflatten_dict(dict(shapes), sep="/")
        units = unit_groups.find(model.apply, nested, model.batch)
        groups = self.select(units)
        sizes = self._solve(units, groups, shapes) if self.target else self._sizes(groups, self.keep)
        if all(sizes[name] == group.size for name, group in groups.items()) and not self.target and self.keep < 1:
            raise UserError(
                f"keep must remove a unit, got {self.keep} with least={self.least} and multiple_of={self.multiple_of},"
                f" which leave all of { ({name: group.size for name, group in groups.items()}) }. Lower them"
            )
        smaller = {name: jax.ShapeDtypeStruct(units.shape(name, x.shape, sizes), x.dtype) for name, x in shapes.items()}
        _check_applies(model, nested, unflatten_dict(smaller, sep="/"))
        return units, groups, sizes

    def select(self, units: Units) -> dict[str, Group]:
        """Returns the groups from which units are removed.

        Raises:
            UserError: if there are none.
        """
        groups = {
            name: group
            for name, group in units.groups.items()
            if group.kind != "head_width"
            and any(re.search(self.match, axis.array.removeprefix("params/")) for axis in group.axes)
        }
        selected = {name: group for name, group in groups.items() if self.width or group.kind != "width"}
        if selected:
            return selected
        if groups:
            raise UserError(
                f"width must be True to remove units of residual streams and embeddings, got False. {list(groups)} are"
                " of that kind alone; set it, or match others"
            )
        names = {name: group.kind for name, group in units.groups.items() if group.kind != "head_width"}
        raise UserError(
            f"match must match an array of a group of units, got {self.match!r}. There are {names or 'no groups'};"
            " units of scanned layers (scan=True), of recurrent ones and of grouped convolutions cannot be removed"
        )

    def _sizes(self, groups: Mapping[str, Group], keep: float) -> Sizes:
        return {name: self._round(group.size, keep) for name, group in groups.items()}

    def _round(self, size: int, keep: float) -> int:
        """Returns the number of units of a group that stay."""
        near = int(size * keep / self.multiple_of + 0.5) * self.multiple_of
        return min(size, max(near, self.least, min(self.multiple_of, size)))

    def _solve(self, units: Units, groups: Mapping[str, Group], shapes: Shapes) -> Sizes:
        """Returns the largest sizes that meet all targets, by bisection over the fraction that stays."""

        def fractions(keep: float) -> dict[str, float]:
            sizes = self._sizes(groups, keep)
            return {cost: costs(units, shapes, sizes)[cost] / dense[cost] for cost in self.target}

        dense = costs(units, shapes, {})
        smallest = fractions(0.0)
        for cost, value in smallest.items():
            if value > self.target[cost]:
                raise UserError(
                    f"target.{cost} must be at least {value:.3f}, with {self.least} of each group's units, got"
                    f" {self.target[cost]}. Raise it, or remove more kinds of units (width=True, match)"
                )
        low, high = 0.0, 1.0
        if all(value <= self.target[cost] for cost, value in fractions(high).items()):
            return self._sizes(groups, high)
        for _ in range(30):
            middle = (low + high) / 2
            meets = all(value <= self.target[cost] for cost, value in fractions(middle).items())
            low, high = (middle, high) if meets else (low, middle)
        return self._sizes(groups, low)


def costs(units: Units, shapes: Shapes, sizes: Mapping[str, int]) -> dict[str, float]:
    """Returns params, FLOPs and bytes of a network if groups have other sizes; batch statistics count as bytes."""
    widths = {name: jnp.dtype(x.dtype).itemsize for name, x in shapes.items()}
    numbers = {name: _size(units.shape(name, x.shape, sizes)) for name, x in shapes.items()}
    return {
        "parameters": sum(count for name, count in numbers.items() if name.startswith("params/")),
        "flops": units.flops(sizes),
        "bytes": sum(widths[name] * count for name, count in numbers.items()),
    }


def _size(shape: tuple[int, ...]) -> int:
    return int(jax.ShapeDtypeStruct(shape, jnp.float32).size)


def _magnitudes(variables: Arrays, groups: Mapping[str, Group]) -> importance.Scores:
    return {name: importance.magnitude(variables, group) for name, group in groups.items()}


def _take_best(variables: Arrays, units: Units, scores: importance.Scores, sizes: Sizes) -> dict[str, Array]:
    return unit_groups.take(variables, units, best(scores, sizes))


def best(scores: importance.Scores, sizes: Sizes) -> dict[str, Int[Array, " units"]]:
    """Returns the units of the largest scores, in their order; of equal ones the first."""
    return {
        name: jnp.sort(jnp.argsort(-scores[name], stable=True)[:count]).astype(jnp.int32)
        for name, count in sizes.items()
    }


def _check_applies(model: Model, dense: Variables, smaller: Variables) -> None:
    """Checks that a module computes with smaller arrays what it computed with its own.

    Raises:
        UserError: if it declares an array of its own that was to be smaller, or takes another branch.
    """

    try:
        is_same = _primitives(model, dense) == _primitives(model.under(apply_resized), smaller)
        reason = "it takes another branch for these sizes"
    except Exception as error:
        is_same, reason = False, str(error).partition("\n")[0]
    if not is_same:
        raise UserError(
            f"keep must leave a model that computes the same with fewer units, but {reason}. Leave out groups by"
            " match, or set width=False or another keep"
        )


def _primitives(model: Model, variables: Variables) -> list[str]:
    """Returns the names of the operations of a program, in order."""

    def names(jaxpr: Any) -> Iterator[str]:
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for value in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, PROGRAMS)):
                if isinstance(value, PROGRAMS):
                    yield from names(getattr(value, "jaxpr", value))

    return list(names(jax.make_jaxpr(model.apply)(variables, model.batch).jaxpr))
