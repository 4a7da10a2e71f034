"""Delayed copies, step by step."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import toys
from jaxdistill.core import Term
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.networks import Delayed, Trained, in_order
from jaxdistill.train.step import make_step

NET = toys.Net(norm=True)


def test_a_delayed_copy_is_renewed_every_few_updates():
    networks = {"student": Trained(NET), "old": Delayed(of="student", every=3)}
    batch, tx = toys.batch(), optax.sgd(0.3)
    state, frozen = toys.start(networks, {}, tx, batch)
    step = jax.jit(make_step(networks, {"task": Term(CrossEntropy(), teacher=None)}, tx))
    history = [jax.tree.map(np.array, (state.params["student"], state.variables["student"]))]
    for number in range(1, 8):
        state, _ = step(state, frozen, batch)
        history.append(jax.tree.map(np.array, (state.params["student"], state.variables["student"])))
        params, statistics = history[number - number % 3]
        old = state.variables["old"]
        assert toys.same(old["params"], params), number
        assert toys.same(old["batch_stats"], statistics["batch_stats"]), number
    assert not toys.same(history[6][0], history[7][0])


def test_a_copy_is_in_inference_mode():
    old = in_order({"student": Trained(NET), "old": Delayed(of="student")})["old"]
    batch = toys.batch()
    variables = NET.init(jax.random.key(0), batch["image"], train=False)
    output, changed = old(variables, batch, {}, jax.random.key(1))
    np.testing.assert_array_equal(output.logits, NET.apply(variables, batch["image"], train=False).logits)
    assert changed == {}
    assert jnp.isfinite(output.logits).all()
