"""A network on a second view, with shared weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import toys
from jaxdistill.core import Term
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.kd import KD
from jaxdistill.networks import Shared, Trained, in_order
from jaxdistill.train.step import make_step

NET = toys.Net(norm=True)
NETWORKS = in_order({"student": Trained(NET), "again": Shared(of="student", input="image2")})
BATCH = toys.batch() | {"image2": toys.batch(seed=1)["image"]}


def test_it_has_no_variables_and_moves_no_statistics():
    task = Term(CrossEntropy(), teacher=None)
    terms, tx = {"task": task, "consistency": Term(KD(), student="student", teacher="again")}, optax.sgd(0.0)
    state, frozen = toys.start(NETWORKS, terms, tx, BATCH)
    assert set(state.params) == {"student"}
    alone, _ = jax.jit(make_step({"student": NETWORKS["student"]}, {"task": task}, tx))(state, frozen, BATCH)
    both, _ = jax.jit(make_step(NETWORKS, terms, tx))(state, frozen, BATCH)
    assert toys.same(alone.variables, both.variables)


def test_it_is_the_same_network_on_the_other_field():
    variables = NET.init(jax.random.key(0), BATCH["image"])
    output, changed = NETWORKS["again"]({"borrowed": variables}, BATCH, {}, None)
    np.testing.assert_array_equal(output.logits, NET.apply(variables, BATCH["image2"]).logits)
    assert not jnp.array_equal(output.logits, NET.apply(variables, BATCH["image"]).logits)
    assert changed == {}
    assert (NETWORKS["again"].borrows, NETWORKS["again"].needs) == ("student", ("student",))
