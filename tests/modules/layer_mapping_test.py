"""Which layers meet: the rules of the field `layers`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Method, Output
from jaxdistill.errors import UserError
from jaxdistill.modules import layer_mapping


def blocks(count, width=3, start=0):
    """Taps block0.. whose values are their number plus `start`, and some others."""
    taps = {f"block{i}": jnp.full((2, width), float(i + start)) for i in reversed(range(count))}
    return taps | {"block1/scores": jnp.zeros((2, 1)), "final": jnp.zeros((2, width))}


def numbers(rule, own, theirs):
    return [(int(a[5:]), int(b[5:])) for a, b in layer_mapping.pairs(rule, blocks(own), blocks(theirs))]


def test_named_pairs():
    assert layer_mapping.pairs("stage1, stage2=stage3", {}, {}) == [("stage1", "stage1"), ("stage2", "stage3")]


def test_uniform_is_every_kth_of_the_teachers():
    """TinyBERT: 4 layers of 12 are its 3rd, 6th, 9th and 12th."""
    assert numbers("uniform:block*", 4, 12) == [(0, 2), (1, 5), (2, 8), (3, 11)]
    assert numbers("uniform:block*", 2, 3) == [(0, 0), (1, 2)]


def test_skip_leaves_out_the_last():
    """Patient KD: the first 5 layers of 6 learn from the 2nd, 4th, 6th, 8th and 10th of 12."""
    assert numbers("skip:block*", 6, 12) == [(0, 1), (1, 3), (2, 5), (3, 7), (4, 9)]
    assert numbers("skip:block*", 1, 4) == [(0, 3)]


def test_last():
    assert numbers("last:block*", 2, 5) == [(0, 3), (1, 4)]


def test_more_than_ten_layers_are_in_order():
    assert numbers("last:block*", 12, 12) == [(i, i) for i in range(12)]


class Squares(Method):
    layers: str = "uniform:block*"

    @nn.compact
    def __call__(self, student, teacher, batch):
        return layer_mapping.sum_over_pairs(self, student, teacher, lambda s, t, name: jnp.mean((s - t) ** 2, -1))


def value(rule, own, theirs, params=None):
    student, teacher = (Output(jnp.zeros((2, 3)), taps) for taps in (own, theirs))
    method = Squares(layers=rule)
    variables = method.init(jax.random.key(0), student, teacher, {})
    return method.apply({"params": params} if params else variables, student, teacher, {}), variables


def test_pairs_add_up():
    found, variables = value("uniform:block*", blocks(2), blocks(4))
    np.testing.assert_allclose(found, [1.0 + 4.0] * 2)
    assert not variables


def test_mean_of_layers_is_one_pair():
    found, _ = value("mean:block*", blocks(2), blocks(4))
    np.testing.assert_allclose(found, [(0.5 - 1.5) ** 2] * 2)


def test_mean_of_layers_of_different_shapes_is_refused():
    taps = blocks(2) | {"block1": jnp.zeros((2, 4))}
    with pytest.raises(UserError, match="must match layers of one shape"):
        value("mean:block*", taps, blocks(2))


def test_learned_weights_start_equal_and_are_a_softmax_over_the_teachers():
    found, variables = value("learned:block*", blocks(2), blocks(3))
    assert variables["params"]["layers"].shape == (2, 3)
    np.testing.assert_allclose(found, [(0 + 1 + 4) / 3 + (1 + 0 + 1) / 3] * 2, rtol=1e-6)
    sharp = jnp.array([[50.0, 0, 0], [0, 50.0, 0]])
    np.testing.assert_allclose(value("learned:block*", blocks(2), blocks(3), {"layers": sharp})[0], [0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("unifrom:block*", "Did you mean 'uniform'"),
        ("uniform:stage*", "layers must match taps with a number instead of '\\*', got 'stage"),
        ("uniform:block", "with a number instead of"),
        ("uniform:block*", "Name the pairs, such as 'block0=block0'"),
    ],
)
def test_mistakes_are_refused(rule, message):
    with pytest.raises(UserError, match=message):
        layer_mapping.pairs(rule, blocks(3), blocks(2))


def test_a_tap_that_is_not_there():
    with pytest.raises(UserError, match="tap must be an existing name, got 'stage1'"):
        value("stage1", blocks(2), blocks(2))
