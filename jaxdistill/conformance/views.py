"""Promises that every view keeps, checked on kernels of a convolution, a dense layer and a head.

Of a view that resizes arrays, only what does not depend on a model is checked.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.compress.view import Arrays, Extra, View
from jaxdistill.conformance.promise import NotApplicable, Promise, require, require_close, require_finite
from jaxdistill.errors import UserError

MISTAKE = "no parameter has this name"


@dataclasses.dataclass(frozen=True)
class ToyView:
    """A view with params that it is applied to, and its first extra arrays."""

    view: View
    params: Arrays
    extra: Extra


def make_subject(member: type[View], **fields: Any) -> ToyView:
    """Makes a view and its extra arrays.

    Args:
        member: the view.
        fields: other values than the defaults.

    Raises:
        UserError: if the view refuses them.
    """
    view, params = member(**fields), make_params()
    view.check(params)
    return ToyView(view, params, Extra() if view.resizes else view.init(params))


def make_params() -> dict[str, jax.Array]:
    """Returns random kernels, and a bias."""
    shapes = {"conv/kernel": (3, 3, 4, 8), "dense/kernel": (8, 12), "dense/bias": (12,), "head/kernel": (12, 5)}
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)}


def is_documented(toy: ToyView) -> None:
    """The class has a docstring, and each field a meaning."""
    text = type(toy.view).__doc__ or ""
    generated = text.startswith(f"{type(toy.view).__name__}(")  # by `dataclass`, which lists the fields
    require(bool(text) and not generated, "the class must have a docstring")
    empty = [field.name for field in dataclasses.fields(toy.view) if not field.metadata.get("meaning")]
    require(not empty, f"fields {empty} must have a meaning")


def keeps_shapes(toy: ToyView) -> None:
    """`view` and `finish` return arrays of the same names, shapes and dtypes."""
    _skip_resizing(toy)
    for function in (toy.view.view, toy.view.finish):
        seen = function(toy.params, toy.extra)
        require(_describe(seen) == _describe(toy.params), f"{function.__name__} must keep names, shapes and dtypes")


def keeps_what_it_does_not_select(toy: ToyView) -> None:
    """Params that it does not select are unchanged, the head's among them."""
    _skip_resizing(toy)
    seen, selected = toy.view.view(toy.params, toy.extra), toy.view.selected(toy.params)
    require("head/kernel" not in selected, "the head must not be selected without a pattern")
    for name in {*toy.params} - {*selected}:
        require(bool(np.array_equal(seen[name], toy.params[name])), f"{name} must be unchanged")


def ends_in_the_view(toy: ToyView) -> None:
    """`finish` returns what the module was applied to."""
    _skip_resizing(toy)
    seen, finished = toy.view.view(toy.params, toy.extra), toy.view.finish(toy.params, toy.extra)
    require_close(finished, seen, "finish must return what view returns", rtol=1e-6, atol=1e-7)


def has_finite_gradients(toy: ToyView) -> None:
    """Values and gradients are finite, of zeros too."""
    _skip_resizing(toy)

    def loss(params: Arrays, learned: Arrays) -> jax.Array:
        seen = toy.view.view(params, toy.extra._replace(learned=learned))
        return sum((jnp.sum(x**2) for x in seen.values()), jnp.float32(0))

    require_finite(jax.grad(loss, argnums=(0, 1))(toy.params, toy.extra.learned), "gradients")
    zeros = jax.tree.map(jnp.zeros_like, toy.params)
    require_finite(toy.view.view(zeros, toy.view.init(zeros)), "the view of zeros")


def keeps_its_state(toy: ToyView) -> None:
    """`update` keeps the names, shapes and dtypes of states under `jit`, and the learned arrays."""
    _skip_resizing(toy)
    updated = jax.jit(toy.view.update)(toy.extra, toy.params, jnp.int32(3))
    require(_describe(updated.state) == _describe(toy.extra.state), "update must keep the shapes of states")
    require_close(dict(updated.learned), dict(toy.extra.learned), "update must keep learned arrays", rtol=0)


def refuses_a_pattern_without_match(toy: ToyView) -> None:
    """A pattern that matches nothing is refused by a `UserError`."""
    try:
        dataclasses.replace(toy.view, match=MISTAKE).check(toy.params)
    except UserError as error:
        require(str(error).startswith("match must"), f"the message must begin with the field, got {error}")
    else:
        _skip_resizing(toy)  # it may need a model to refuse it
        raise AssertionError("a pattern that matches nothing must be refused")


def _skip_resizing(toy: ToyView) -> None:
    if toy.view.resizes:
        raise NotApplicable("it stores other arrays than the module declares")


def _describe(arrays: Arrays) -> dict[str, Any]:
    return {name: (x.shape, x.dtype) for name, x in arrays.items()}


PROMISES = (
    Promise("its class has a docstring and its fields meanings", is_documented),
    Promise("it keeps names, shapes and dtypes", keeps_shapes),
    Promise("it keeps the params that it does not select", keeps_what_it_does_not_select),
    Promise("its end is its view", ends_in_the_view),
    Promise("its values and gradients are finite", has_finite_gradients),
    Promise("an update keeps the tree of its states", keeps_its_state),
    Promise("it refuses a pattern that matches nothing", refuses_a_pattern_without_match),
)
