"""Exponential moving averages of a network's weights."""

import jax
import numpy as np
import optax
import pytest

import toys
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.networks import Ema, Frozen, Trained, in_order
from jaxdistill.train.init import init_state
from jaxdistill.train.step import make_step

TASK = Term(CrossEntropy(), teacher=None)


def test_ema_by_hand():
    """d = min(decay, 1 - 1/(n+1)): after one update half of each, after three with decay 0.6 the last at 0.6."""
    networks = {"student": Trained(toys.Net()), "teacher": Ema("student", decay=0.6)}
    tx, batch = optax.sgd(0.5), toys.batch()
    terms = {"task": TASK}
    state, frozen = toys.start(networks, terms, tx, batch)
    step = jax.jit(make_step(networks, terms, tx))
    follow = state.params["student"]
    assert toys.same(follow, state.variables["teacher"]["params"])
    for decay in (0.5, 0.6, 0.6):
        state, _ = step(state, frozen, batch)
        follow = jax.tree.map(lambda a, b, d=decay: d * a + (1 - d) * b, follow, state.params["student"])
    for mine, theirs in zip(
        jax.tree.leaves(follow), jax.tree.leaves(state.variables["teacher"]["params"]), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_ema_starts_as_a_copy_that_can_be_donated():
    networks = {"student": Trained(toys.Net()), "teacher": Ema("student")}
    tx, batch = optax.sgd(0.5), toys.batch()
    given = toys.Net(width=5).init(jax.random.key(3), batch["image"])
    key = jax.random.key(0)
    state, frozen = init_state(networks, {"task": TASK}, tx, batch, key=key, weights={"student": given})
    assert toys.same(state.params["student"], given["params"])
    step = jax.jit(make_step(networks, {"task": TASK}, tx), donate_argnums=0)
    state, _ = step(state, frozen, batch)
    assert np.isfinite(jax.tree.leaves(state.params)[0]).all()
    assert np.isfinite(jax.tree.leaves(given)[0]).all()  # still the caller's


def test_an_average_of_a_network_that_never_moves_is_refused():
    with pytest.raises(UserError, match="networks.slow.of must .*never moves"):
        in_order({"teacher": Frozen(toys.Net()), "slow": Ema(of="teacher")})


@pytest.mark.parametrize("decay", [-0.1, 1.5])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(UserError, match=r"decay must be in \[0, 1\]"):
        Ema("student", decay=decay).check()
