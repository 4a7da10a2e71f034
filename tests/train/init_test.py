"""The shapes of a start: those of the start itself, and a network is traced for them once."""

import jax
import jax.numpy as jnp
import optax
import pytest

import toys
from jaxdistill.core import Output, Term
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.kd import KD
from jaxdistill.networks import Ema, Frozen, Function, Trained
from jaxdistill.train import init

TRACED = []


class Counted(toys.Net):
    def __call__(self, x, train=False):
        TRACED.append(self.width)
        return super().__call__(x, train)


def cast():
    """Networks made anew, as each stage makes its own."""
    return {
        "teacher": Frozen(Counted(width=9, norm=True)),
        "student": Trained(Counted(norm=True, dropout=0.1)),
        "slow": Ema(of="student"),
        "function": Function(lambda x: jnp.zeros((len(x), toys.CLASSES))),
    }


TERMS = {"task": Term(CrossEntropy(), teacher=None), "kd": Term(KD())}


def shapes(rows):
    return init.init_shapes(cast(), TERMS, optax.adam(1e-3), toys.shapes(toys.batch(rows)))


def test_shapes_are_those_of_the_start():
    state, frozen, outputs = shapes(6)
    key, batch = jax.random.key(0), toys.shapes(toys.batch(6))
    expected = jax.eval_shape(lambda: init.init_state(cast(), TERMS, optax.adam(1e-3), batch, key=key))
    assert jax.tree.structure((state, frozen)) == jax.tree.structure(expected)
    assert jax.tree.leaves((state, frozen)) == jax.tree.leaves(expected)
    assert isinstance(outputs["slow"], Output)
    assert {name: said.logits.shape for name, said in outputs.items()} == dict.fromkeys(cast(), (6, toys.CLASSES))


@pytest.mark.parametrize("rows", [5, 7])
def test_equal_networks_are_traced_once_for_a_shape_of_batch(rows):
    shapes(rows)
    assert TRACED
    TRACED.clear()
    shapes(rows)
    assert TRACED == []
    shapes(rows + 10)
    assert TRACED
