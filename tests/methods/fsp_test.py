"""Flow of the solution procedure: values by hand, and refused settings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.methods.fsp import FSP, flow, fsp


def line(*values):
    return jnp.array(values).reshape(1, 1, len(values), 1)


def result(*widths, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(widths))
    return Output(None, {f"stage{i}": jax.random.normal(keys[i], (2, 4, 4, width)) for i, width in enumerate(widths)})


def test_by_hand():
    """(1 * 2 + 3 * 4) / 2 = 7 against 0, then (2 * 1 + 4 * 0) / 2 = 1 against 0."""
    student, teacher = [line(1.0, 3.0), line(2.0, 4.0), line(1.0, 0.0)], [line(0.0, 0.0)] * 3
    np.testing.assert_allclose(flow(student[0], student[1], "max"), [[[7]]])
    np.testing.assert_allclose(fsp(student, teacher, "max"), [49 + 1])


def test_entries_are_pairs_of_channels_and_averaged():
    first = jnp.array([[1.0, 2.0]]).reshape(1, 1, 1, 2)
    second = jnp.array([[1.0, 3.0, 5.0]]).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(flow(first, second, "max"), [[[1, 3, 5], [2, 6, 10]]])
    value = fsp([first, second], [0 * first, 0 * second], "max")
    np.testing.assert_allclose(value, [(1 + 9 + 25 + 4 + 36 + 100) / 6])


def test_the_larger_of_two_layers_is_pooled():
    large = jnp.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1)
    small = jnp.full((1, 1, 1, 1), 2.0)
    for pooling, expected in (("max", 8), ("average", 5)):
        np.testing.assert_allclose(flow(large, small, pooling), [[[expected]]])
        np.testing.assert_allclose(flow(small, large, pooling), [[[expected]]])


def test_only_layers_of_different_widths_are_widened():
    method = FSP(layers="stage0,stage1,stage2")
    assert not method.init(jax.random.key(0), result(2, 3, 4), result(2, 3, 4), {})
    params = method.init(jax.random.key(0), result(2, 3, 4), result(2, 6, 4), {})["params"]
    assert {name: param["kernel"].shape for name, param in params.items()} == {"layer1": (1, 1, 3, 6)}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pooling": "maximum"}, "Did you mean 'max'"),
        ({"layers": "learned:stage*"}, "pair single layers"),
        ({"layers": "mean:stage*"}, "pair single layers"),
    ],
)
def test_invalid_fields_are_refused(fields, message):
    FSP(layers="uniform:stage*", pooling="average").check()
    with pytest.raises(UserError, match=message):
        FSP(**fields).check()


def test_one_layer_is_refused():
    with pytest.raises(UserError, match="must name two pairs"):
        FSP(layers="stage0").init(jax.random.key(0), result(2), result(2), {})
