"""Arithmetic of equal trees of arrays."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.merging import trees

LEFT = {"a": jnp.array([3.0, 0.0]), "b": jnp.array(4.0)}
ZERO = {"a": jnp.zeros(2), "b": jnp.array(0.0)}


def test_distance_norm_and_task_vectors_by_hand():
    assert float(trees.norm(LEFT)) == float(trees.distance(LEFT, ZERO)) == 5.0
    assert float(trees.norm(trees.to_unit_norm(LEFT))) == pytest.approx(1.0)
    assert float(trees.norm(trees.to_unit_norm(ZERO))) == 0.0
    vector = trees.task_vectors([ZERO], LEFT)[0]
    np.testing.assert_array_equal(vector["a"], [-3.0, 0.0])


def test_leaves_are_computed_in_float32_and_keep_their_dtype():
    half = {"a": jnp.array([1.0, 256.0], jnp.bfloat16)}
    dtypes = []
    tree = trees.map_leaves(lambda x, y: dtypes.append(x.dtype) or (x + y), half, half)
    assert dtypes == [jnp.float32]
    assert tree["a"].dtype == jnp.bfloat16


def test_fractions_sum_to_one():
    assert trees.fractions([LEFT, ZERO], ()) == [0.5, 0.5]
    assert trees.fractions([LEFT, ZERO], (1.0, 3.0)) == [0.25, 0.75]


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (0.0, 0.0), (float("inf"), 1.0), (float("nan"), 1.0)])
def test_weights_that_are_no_fractions_are_refused(weights):
    with pytest.raises(UserError, match="weights must be a number of 0 or more for each of 2 networks, not all 0"):
        trees.fractions([LEFT, ZERO], weights)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"a": jnp.zeros(3), "b": jnp.array(0.0)}, r"tree 1 must have the shapes of tree 0, got others in \['a'\]"),
        ({"a": jnp.zeros(2)}, r"got others in \['b'\]"),
        ({**ZERO, "c": jnp.zeros(1)}, r"got others in \['c'\]"),
    ],
)
def test_trees_of_other_names_or_shapes_are_refused(tree, message):
    with pytest.raises(UserError, match=message):
        trees.check_equal([LEFT, tree])


def test_whole_numbers_are_refused():
    with pytest.raises(UserError, match="n must be of floating-point numbers to be merged, got int32"):
        trees.check_equal([{"n": jnp.array(1)}])
