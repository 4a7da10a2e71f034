import dataclasses
import types
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.sparse import Sparse
from jaxdistill.compress.view import Extra, Model, View
from jaxdistill.compress.views import NO_VIEWS, Views, view_of, without_views
from jaxdistill.errors import UserError


@dataclasses.dataclass(frozen=True)
class Scaled(View):
    """Kernels times a learned factor, counting updates."""

    order: ClassVar[int] = 4

    def init(self, params):
        names = self.selected(params)
        return Extra({name: jnp.float32(2.0) for name in names}, {"updates": jnp.int32(0)})

    def view(self, params, extra):
        return {**params, **{name: params[name] * factor for name, factor in extra.learned.items()}}

    def update(self, extra, params, step):
        return extra._replace(state={"updates": extra.state["updates"] + 1})


@dataclasses.dataclass(frozen=True)
class Halved(View):
    """Kernels with the first half of their outputs."""

    order: ClassVar[int] = 0
    resizes: ClassVar[bool] = True

    def resize(self, variables, model):
        return {
            name: x[..., : x.shape[-1] // 2] if name.endswith("dense/kernel") else x for name, x in variables.items()
        }

    def intercept(self, extra):
        def call(function, args, kwargs, context):
            if context.module.name != "dense" or context.method_name != "__call__":
                return function(*args, **kwargs)
            y = args[0] @ context.module.variables["params"]["kernel"]
            return jnp.concatenate([y, jnp.zeros_like(y)], -1)

        return call


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="head")(nn.Dense(4, use_bias=False, name="dense")(x))


X = jnp.ones((2, 4))
MODEL = Model(lambda variables, batch: Net().apply(variables, batch["x"]), {"x": X})
VARIABLES = Net().init(jax.random.key(0), X)
BOTH = Views.of({"scaled": Scaled(), "sparse": Sparse(sparsity=0.5)})


def test_views_are_applied_in_their_stated_order():
    assert [name for name, _ in BOTH.entries] == ["sparse", "scaled"]
    started = BOTH.start(VARIABLES)
    kernel = VARIABLES["params"]["dense"]["kernel"]
    mask = started["compress"]["sparse"]["dense"]["kernel"]
    np.testing.assert_allclose(BOTH.viewed(started)["params"]["dense"]["kernel"], 2 * kernel * mask)
    finished = BOTH.finish(started)
    assert set(finished) == {"params"}
    assert set(finished["params"]) == {"dense", "head"}
    np.testing.assert_allclose(finished["params"]["dense"]["kernel"], 2 * kernel * mask)


def test_learned_arrays_are_params_and_states_a_collection():
    started = BOTH.start(VARIABLES)
    assert started["params"]["compress"] == {"scaled": {"dense": {"kernel": 2.0}}}
    assert set(started["compress"]) == {"scaled", "sparse"}
    assert jax.tree.structure(without_views(started)) == jax.tree.structure(dict(VARIABLES))
    updated = BOTH.update(started, jnp.int32(1))
    assert jax.tree.structure(updated["compress"]) == jax.tree.structure(started["compress"])
    assert updated["compress"]["scaled"]["updates"] == 1
    assert not NO_VIEWS
    assert NO_VIEWS.update(VARIABLES, jnp.int32(1)) == {}


def test_what_a_view_has_already_is_kept_and_a_new_view_starts():
    first = Views.of({"sparse": Sparse(sparsity=0.5)}).start(VARIABLES)
    changed = jax.tree.map(jnp.zeros_like, first["compress"])
    started = BOTH.start({**first, "compress": changed}, whole=False)
    assert not started["compress"]["sparse"]["dense"]["kernel"].any()
    assert started["compress"]["scaled"]["updates"] == 0


def test_resized_arrays_are_stored_and_the_module_is_applied_to_them():
    views = Views.of({"half": Halved(), "sparse": Sparse(sparsity=0.5)})
    assert views.resizes
    started = views.start(VARIABLES, model=MODEL)
    assert started["params"]["dense"]["kernel"].shape == (4, 2)
    assert started["compress"]["sparse"]["dense"]["kernel"].shape == (4, 2)
    with views.applied(started) as seen:
        found = Net().apply(seen, X)
    kernel = VARIABLES["params"]["dense"]["kernel"][:, :2] * started["compress"]["sparse"]["dense"]["kernel"]
    head = VARIABLES["params"]["head"]
    np.testing.assert_allclose(found, np.asarray(X @ kernel @ head["kernel"][:2]) + np.asarray(head["bias"]), rtol=1e-6)
    fitted = views.fit(VARIABLES, types.SimpleNamespace(model=lambda: MODEL))
    jax.tree.map(np.testing.assert_array_equal, fitted, started)


def test_an_error_names_the_view():
    with pytest.raises(UserError, match=r"^compress\.sparse\.sparsity must be less than 1"):
        Views.of({"sparse": Sparse(sparsity=1.0)}).start(VARIABLES)


def test_names_in_a_checkpoint_belong_to_views():
    assert view_of("params.compress.scaled.dense.kernel") == "scaled"
    assert view_of("compress.sparse.dense.kernel") == "sparse"
    assert view_of("params.dense.kernel") == ""
    assert view_of("batch_stats.bn.mean") == ""
