"""Factors of kernels: at full rank the same function, below it fewer FLOPs."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import numpy_variables
from jaxdistill.compress import low_rank
from jaxdistill.compress.low_rank import LowRank
from jaxdistill.compress.sparse import Sparse
from jaxdistill.compress.view import Model
from jaxdistill.compress.views import Views
from jaxdistill.errors import UserError


class Layers(nn.Module):
    """A dense layer over heads and back, and convolutions: strided, 1x1, grouped, by channel."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), strides=2, padding=((1, 1), (1, 1)), name="strided")(x)
        x = nn.Conv(10, (1, 1), use_bias=False, name="point")(nn.relu(x))
        x = nn.Conv(10, (1, 1), feature_group_count=2, name="grouped")(x)
        x = jnp.mean(nn.relu(nn.Conv(10, (3, 3), feature_group_count=10, name="depthwise")(x)), (1, 2))
        x = nn.DenseGeneral((3, 4), name="heads")(x)
        x = nn.DenseGeneral(9, axis=(-2, -1), name="join")(x)
        return nn.Dense(5, name="head")(nn.relu(nn.Dense(7, name="dense")(x)))


def layers():
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 6))
    module = Layers()
    return Model(lambda variables, batch: module.apply(variables, batch["x"]), {"x": x}), numpy_variables.draw(
        module, x
    )


def factored(view, model, variables):
    return jax.jit(lambda variables: Views.of({"low": view}).start(variables, model=model))(variables)


def apply(model, variables):
    return jax.jit(model.under(low_rank.apply_factored).apply).lower(variables, model.batch).compile()


def test_full_rank_is_the_identity_and_a_low_rank_has_fewer_flops():
    model, variables = layers()
    dense = apply(model, variables)
    whole = factored(LowRank(fraction=1.0), model, variables)
    shapes = {name: sorted(arrays) for name, arrays in whole["params"].items()}
    assert shapes == dict(
        strided=["bias", "core", "in", "out"],
        point=["in", "out"],
        grouped=["bias", "kernel"],
        depthwise=["bias", "kernel"],
        heads=["bias", "in", "out"],
        join=["bias", "in", "out"],
        dense=["bias", "in", "out"],
        head=["bias", "kernel"],
    )
    assert whole["params"]["heads"]["out"]["kernel"].shape == (10, 3, 4)
    assert whole["params"]["join"]["in"]["kernel"].shape == (3, 4, 9)
    expected = dense(variables, model.batch)
    np.testing.assert_allclose(apply(model, whole)(whole, model.batch), expected, rtol=1e-5, atol=1e-5)
    low = factored(LowRank(rank=2), model, variables)
    assert low["params"]["strided"]["core"]["kernel"].shape == (3, 3, 2, 2)
    smaller = apply(model, low)
    assert smaller.cost_analysis()["flops"] < 0.6 * dense.cost_analysis()["flops"]
    assert np.abs(smaller(low, model.batch) - expected).max() > 1e-3


def test_the_nearest_matrix_of_a_rank_by_hand():
    # Singular values 3, 2 and 0: rank 1 keeps the first.
    matrix = jnp.array([[0.0, 3.0], [2.0, 0.0], [0.0, 0.0]])
    left, right = low_rank.factor_matrix(matrix, 1)
    np.testing.assert_allclose(left @ right, [[0, 3], [0, 0], [0, 0]], atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(left), np.sqrt(3), rtol=1e-6)


def test_a_convolution_of_low_rank_is_its_factors():
    random = np.random.default_rng(0)
    core, left, right = (random.normal(size=shape) for shape in ((3, 3, 2, 1), (2, 5), (1, 4)))
    kernel = np.einsum("hwrs,ri,so->hwio", core, left, right).astype(np.float32)
    a, small, b = low_rank.factor_convolution(kernel, 2, 1)
    assert small.shape == (3, 3, 2, 1)
    np.testing.assert_allclose(jnp.einsum("ir,hwrs,so->hwio", a, small, b), kernel, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(match="nothing"), "match must match a parameter"),
        (dict(match="grouped"), "match must match the kernel of a dense layer or of a convolution without groups"),
        (dict(rank=7), "rank must be at most 6 for strided/kernel, its smaller dimension, got 7"),
        (dict(fraction=0.0), r"fraction must be in \(0, 1\], got 0.0"),
        (dict(fraction=1.5), r"fraction must be in \(0, 1\], got 1.5"),
    ],
)
def test_mistakes(fields, message):
    model, variables = layers()
    with pytest.raises(UserError, match=f"compress.low.{message}"):
        jax.eval_shape(lambda: Views.of({"low": LowRank(**fields)}).start(variables, model=model))


def test_views_after_it_take_the_factors():
    params = {"dense/in/kernel": np.ones((4, 2)), "dense/out/kernel": np.ones((2, 4)), "dense/bias": np.ones(4)}
    assert Sparse().selected(params) == ["dense/in/kernel", "dense/out/kernel"]
