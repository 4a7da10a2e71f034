"""Every view that is found keeps the promises of views; so does one in a user's package."""

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
import pytest

from jaxdistill.compress.view import Extra, View
from jaxdistill.config import registry
from jaxdistill.config.parse import option
from jaxdistill.conformance import promise, views
from jaxdistill.errors import UserError


@dataclasses.dataclass(frozen=True)
class Clipped(View):
    """Weights within a bound."""

    bound: float = option(1.0, "largest magnitude")

    order: ClassVar[int] = 2

    def view(self, params, extra):
        return {**params, **{name: jnp.clip(params[name], -self.bound, self.bound) for name in self.selected(params)}}


@dataclasses.dataclass(frozen=True)
class Broken(Clipped):
    def check(self, params):
        pass

    def init(self, params):
        return Extra({}, {"count": jnp.int32(0)})

    def update(self, extra, params, step):
        return Extra({}, {"count": jnp.float32(1)})

    def finish(self, params, extra):
        return {name: 2 * x for name, x in params.items()}


@pytest.mark.parametrize("check", [promise.check for promise in views.PROMISES], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", registry.names("view"))
def test_a_view_keeps_the_promise(name, check):
    try:
        check(views.make_subject(registry.find("view", name)))
    except promise.NotApplicable as reason:
        pytest.skip(str(reason))


def test_a_view_of_a_user_keeps_the_promises_and_broken_ones_are_found():
    results = list(promise.run(views.PROMISES, lambda: views.make_subject(Clipped)))
    assert [str(result) for result in results if result.status == "FAIL"] == []
    results = {
        result.name for result in promise.run(views.PROMISES, lambda: views.make_subject(Broken)) if result.reason
    }
    assert results == {
        "its class has a docstring and its fields meanings",
        "its end is its view",
        "an update keeps the tree of its states",
        "it refuses a pattern that matches nothing",
    }


def test_a_pattern_selects_names_and_the_head_is_left_out():
    params = views.make_params()
    assert View().selected(params) == ["conv/kernel", "dense/kernel"]
    assert View(match="head|dense").selected(params) == ["dense/kernel", "head/kernel"]
    with pytest.raises(UserError, match=r"match must match a parameter .* There are \['conv/kernel'"):
        View(match="attention").check(params)
