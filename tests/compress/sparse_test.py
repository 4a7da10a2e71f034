import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.sparse import Sparse, largest, largest_of_groups
from jaxdistill.compress.view import Extra
from jaxdistill.errors import UserError

W = {
    "dense/kernel": jnp.array([[4.0, -1.0], [0.5, 3.0], [-2.0, 0.1], [1.0, -5.0]]),
    "dense/bias": jnp.ones(2),
    "head/kernel": jnp.ones((2, 3)),
}


def test_a_share_of_each_array_is_zero_and_the_largest_stay():
    view = Sparse(sparsity=0.5)
    seen = view.view(W, view.init(W))
    np.testing.assert_array_equal(seen["dense/kernel"], [[4, 0], [0, 3], [-2, 0], [0, -5]])
    np.testing.assert_array_equal(seen["head/kernel"], W["head/kernel"])
    np.testing.assert_array_equal(seen["dense/bias"], W["dense/bias"])


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_the_number_of_zeros_is_exact_also_among_equal_weights(share):
    for scores in (jnp.ones((10, 100)), jax.random.normal(jax.random.key(0), (10, 100))):
        assert int(largest(scores, share).sum()) == 1000 - round(share * 1000)


def test_the_share_of_all_arrays_together():
    params = {"a/kernel": jnp.array([[1.0, 2.0]]), "b/kernel": jnp.array([[3.0, 4.0]])}
    view = Sparse(sparsity=0.5, scope="global")
    seen = view.view(params, view.init(params))
    np.testing.assert_array_equal(seen["a/kernel"], [[0, 0]])
    np.testing.assert_array_equal(seen["b/kernel"], [[3, 4]])


def test_two_of_every_four_inputs_of_each_output():
    mask = largest_of_groups(jnp.abs(W["dense/kernel"]), 2, 4)
    np.testing.assert_array_equal(mask, [[1, 0], [0, 1], [1, 0], [0, 1]])
    kernel = jax.random.normal(jax.random.key(0), (3, 3, 8, 5))
    groups = largest_of_groups(jnp.abs(kernel), 2, 4).reshape(-1, 4, 5)
    assert (groups.sum(1) == 2).all()


def test_groups_are_along_the_inputs_of_each_head_and_of_each_layer():
    kernel = jax.random.normal(jax.random.key(0), (8, 3, 5))
    masks = Sparse(n=2, m=4).init({"attention/query/kernel": kernel})
    heads = masks.state["attention/query/kernel"].reshape(2, 4, 3, 5)
    assert (heads.sum(1) == 2).all()
    scanned = {"blocks/dense/kernel": jax.random.normal(jax.random.key(1), (3, 8, 2))}
    layers = Sparse(n=2, m=4).init(scanned).state["blocks/dense/kernel"].reshape(3, 2, 4, 2)
    assert (layers.sum(2) == 2).all()
    with pytest.raises(UserError, match="m must divide the inputs of each output, got 4 for .* with 6 inputs"):
        Sparse(n=2, m=4).check({"blocks/dense/kernel": jnp.ones((2, 6, 8))})


def test_masked_weights_have_no_gradient():
    view = Sparse(sparsity=0.5)
    extra = view.init(W)
    gradient = jax.grad(lambda w: view.view(w, extra)["dense/kernel"].sum())(W)
    np.testing.assert_array_equal(gradient["dense/kernel"], [[1, 0], [0, 1], [1, 0], [0, 1]])


def test_the_share_rises_by_the_cubic_schedule():
    view = Sparse(sparsity=0.8, at=10, over=20)
    shares = [float(view.share(jnp.int32(step))) for step in (0, 10, 15, 20, 30, 99)]
    expected = [0, 0, 0.8 * (1 - 0.75**3), 0.8 * (1 - 0.5**3), 0.8, 0.8]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    assert float(Sparse(sparsity=0.8, at=10).share(jnp.int32(9))) == 0
    np.testing.assert_allclose(float(Sparse(sparsity=0.8, at=10).share(jnp.int32(10))), 0.8)


def test_masks_are_made_at_their_steps_and_stay_after_the_last():
    view = Sparse(sparsity=0.5, at=4, over=4, every=2)
    extra = view.init(W)
    assert extra.state["dense/kernel"].all()
    zeros = []
    for step in range(1, 12):
        extra = jax.jit(view.update)(extra, W, jnp.int32(step))
        zeros.append(int((~extra.state["dense/kernel"]).sum()))
    half = round(8 * 0.5 * (1 - 0.5**3))
    assert zeros == [0, 0, 0, 0, 0, half, half, 4, 4, 4, 4]
    other = {**W, "dense/kernel": -W["dense/kernel"][::-1]}
    after = view.update(extra, other, jnp.int32(12))
    np.testing.assert_array_equal(after.state["dense/kernel"], extra.state["dense/kernel"])


def test_movement_keeps_weights_whose_scores_rose():
    view = Sparse(sparsity=0.5, by="movement")
    extra = view.init(W)
    assert set(extra.learned) == {"dense/kernel"}

    def loss(learned):
        return (view.view(W, Extra(learned, extra.state))["dense/kernel"] ** 2).sum() / 2

    gradient = jax.grad(loss)(extra.learned)["dense/kernel"]
    np.testing.assert_allclose(gradient, W["dense/kernel"] ** 2)  # w dL/d(w m), with dL/d(w m) = w m and m = 1
    scores = {"dense/kernel": -W["dense/kernel"]}
    moved = view.update(Extra(scores, extra.state), W, jnp.int32(1))
    assert int(moved.state["dense/kernel"].sum()) == 4
    kept = np.asarray(W["dense/kernel"])[np.asarray(moved.state["dense/kernel"])]
    assert kept.max() < np.asarray(W["dense/kernel"])[~np.asarray(moved.state["dense/kernel"])].min()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(sparsity=1.0), "sparsity must be less than 1"),
        (dict(n=4), "n must be less than m"),
        (dict(n=2, scope="global"), "n must be 0 with"),
        (dict(n=2, m=8), "m must divide the inputs"),
        (dict(sparsity=0.95), r"sparsity must leave a weight of dense/kernel with 8 weights, got 0\.95"),
        (dict(match="conv"), "match must match a parameter"),
        (dict(match="("), "match must be a regular expression"),
    ],
)
def test_bad_values_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Sparse(**fields).check(W)
