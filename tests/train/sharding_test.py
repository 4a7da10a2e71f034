"""Meshes and rules; one device equals many."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

import toys
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.kd import KD
from jaxdistill.networks import Ema, Frozen, Trained, in_order
from jaxdistill.train import sharding
from jaxdistill.train.init import initial
from jaxdistill.train.step import make_step

TREE = {"student": {"Conv_0": {"kernel": jnp.zeros((3, 3, 4, 8)), "bias": jnp.zeros(8)}}}


def test_mesh_sizes():
    assert dict(sharding.make_mesh({"data": -1}).shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert dict(sharding.make_mesh({"data": -1, "fsdp": 4}).shape) == {"data": 2, "fsdp": 4, "tensor": 1}
    with pytest.raises(UserError, match="does not fit 8 devices"):
        sharding.make_mesh({"data": 3})
    with pytest.raises(UserError, match="no mesh axis 'fdsp'; did you mean 'fsdp'"):
        sharding.make_mesh({"fdsp": 2})


def test_rules():
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    rules = [("Conv_0/kernel", (None, None, "fsdp", "tensor"))]
    placed = sharding.shardings(mesh, TREE, rules)["student"]["Conv_0"]
    assert placed["kernel"].spec == P(None, None, "fsdp", "tensor")
    assert placed["bias"].spec == P()
    assert sharding.bytes_per_device(mesh, TREE, sharding.shardings(mesh, TREE, rules)) == 4 * (9 * 4 * 8 // 8 + 8)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("Dense", ("fsdp",)), "matches no array of 1 dimensions; names look like"),
        (("kernel", ("fsdp",)), "matches no array of 1 dimensions"),
        (("kernel", (None, None, None, "model")), "no mesh axis 'model'"),
        (
            ("kernel", ("fsdp", None, None, None)),
            r"\(3, 3, 4, 8\) cannot be split over 'fsdp': 3 is not a multiple of 8",
        ),
    ],
)
def test_bad_rules(rule, message):
    with pytest.raises(UserError, match=message):
        sharding.shardings(sharding.make_mesh({"fsdp": 8}), TREE, [rule])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("kernel", "is not \\(regex, spec\\)"),
        (("kernel", "fsdp"), "is not \\(regex, spec\\)"),
        (("(", (None,)), "not a regular expression"),
        (("kernel", ("fsdp", "fsdp")), "two dimensions over one axis"),
    ],
)
def test_what_is_no_rule(rule, message):
    with pytest.raises(UserError, match=message):
        sharding.check_rules([rule])


@pytest.mark.parametrize(
    ("batch", "accumulate", "processes", "message"),
    [
        (12, 1, 1, "a batch of 12 cannot be divided by .* = 8; take 8 or 16"),
        (16, 4, 1, "= 32; take 32 or 64"),
        (16, 3, 1, "accumulate = 3"),
        (0, 1, 1, "a batch of 0"),
        (8, 1, 3, "3 processes"),
    ],
)
def test_a_batch_that_cannot_be_shared(batch, accumulate, processes, message):
    with pytest.raises(UserError, match=message):
        sharding.check_batch(sharding.make_mesh({"data": -1}), batch, accumulate, processes)


def train(mesh, rules, steps=4):
    """Trains with batch statistics, EMA and momentum on a mesh; returns losses and the state."""
    student = Trained(toys.Net(width=8, norm=True))
    networks = in_order(
        {
            "teacher": Frozen(toys.Net(width=16, norm=True)),
            "student": student,
            "slow": Ema(student, of="student", decay=0.5),
        }
    )
    terms = {"task": Term(CrossEntropy(), teacher=None), "kd": Term(KD())}
    tx, batch = optax.sgd(0.1, momentum=0.9), toys.batch(16)

    def init():
        return initial(networks, terms, tx, toys.shapes(batch), jax.random.key(0), {})

    placed = sharding.shardings(mesh, jax.eval_shape(init), rules)
    state, frozen = jax.jit(init, out_shardings=placed)()
    outputs = (placed[0], sharding.replicated(mesh))
    step = jax.jit(make_step(networks, terms, tx), donate_argnums=0, out_shardings=outputs)
    batch = sharding.put(mesh, jax.tree.map(np.asarray, batch))
    losses = []
    for _ in range(steps):
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
    return losses, state


KERNELS = [("Conv_0/kernel", (None, None, None, "fsdp")), ("Dense_0/kernel", ("tensor", None))]


@pytest.mark.parametrize(
    ("mesh", "rules"),
    [
        ({"data": 4}, []),
        ({"fsdp": 4}, KERNELS[:1]),
        ({"data": 2, "fsdp": 2, "tensor": 2}, KERNELS),
    ],
    ids=["data", "fsdp", "mixed"],
)
def test_one_device_equals_many(mesh, rules, compiled):
    """Batch statistics are those of the global batch, wherever its rows are."""
    one = sharding.make_mesh({}, jax.devices()[:1])
    many = sharding.make_mesh(mesh, jax.devices()[: int(np.prod(list(mesh.values())))])
    expected, state = train(one, [])
    before = compiled("step")
    losses, other = train(many, rules)
    assert compiled("step") - before == 1
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)  # noqa: E731
    jax.tree.map(near, jax.device_get(other.params), jax.device_get(state.params))
    jax.tree.map(near, jax.device_get(other.variables), jax.device_get(state.variables))
    if rules:
        kernel = other.params["student"]["Conv_0"]["kernel"]
        momentum = other.opt_state[0].trace["student"]["Conv_0"]["kernel"]
        average = other.variables["slow"]["params"]["Conv_0"]["kernel"]
        for leaf in (kernel, momentum, average):
            assert leaf.sharding.spec == P(None, None, None, "fsdp")
            assert leaf.addressable_shards[0].data.shape[-1] == 8 // mesh["fsdp"]
