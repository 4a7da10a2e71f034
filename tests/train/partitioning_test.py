"""Rules over names, and ready sets of them."""

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import PartitionSpec as P

import toys
from jaxdistill.core import State, Term
from jaxdistill.errors import UserError
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.models import transformer
from jaxdistill.networks import Ema, Frozen, Trained
from jaxdistill.train import mesh as sharding
from jaxdistill.train import partitioning
from jaxdistill.train.init import init_state
from jaxdistill.train.partitioning import NetworkRules, Partitioner, Rules

TREE = {"student": {"Conv_0": {"kernel": jnp.zeros((3, 3, 4, 8)), "bias": jnp.zeros(8)}}}


def test_rules():
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    entries = [("Conv_0/kernel", (None, None, "fsdp", "tensor"))]
    placed = partitioning.shardings(mesh, TREE, entries)["student"]["Conv_0"]
    assert placed["kernel"].spec == P(None, None, "fsdp", "tensor")
    assert placed["bias"].is_fully_replicated
    assert sharding.bytes_per_device(TREE, partitioning.shardings(mesh, TREE, entries)) == 4 * (9 * 4 * 8 // 8 + 8)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("Dense", ("fsdp",)), "matches no array of 1 dimensions; examples of names"),
        (("kernel", ("fsdp",)), "matches no array of 1 dimensions"),
        (("kernel", (None, None, None, "model")), "sharding must be a mesh axis, got 'model'"),
        (
            ("kernel", ("fsdp", None, None, None)),
            r"\(3, 3, 4, 8\) cannot be split over 'fsdp': 3 is not a multiple of 8",
        ),
    ],
)
def test_bad_rules(rule, message):
    with pytest.raises(UserError, match=message):
        partitioning.shardings(sharding.make_mesh({"fsdp": 8}), TREE, [rule])


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("fdsp", "sharding must be a set of sharding rules, got 'fdsp'. Did you mean 'fsdp'"),
        ("tensor:4", "sharding must have a number in the form 'fsdp:65536', got 'tensor:4'"),
        ("fsdp:0", "the number of 'fsdp:0' must be at least 1 and finite, got 0"),
        (("kernel",), r"must have rules \(regex, spec\) such as"),
        (("kernel", "fsdp"), r"must have rules \(regex, spec\) such as"),
        (("(", (None,)), "must have a regular expression in a rule, got"),
        (("kernel", ("fsdp", "fsdp")), "two dimensions over one axis"),
    ],
)
def test_other_values_are_no_rules(rule, message):
    with pytest.raises(UserError, match=message):
        Rules.parse([rule])


@pytest.fixture(scope="module")
def shapes():
    """The state of a student with momentum and an average of its weights, and a frozen teacher."""
    networks = {
        "teacher": Frozen(toys.Net(width=16)),
        "student": Trained(toys.Net(width=8, norm=True)),
        "slow": Ema(of="student"),
    }
    terms = {"task": Term(CrossEntropy(), teacher=None), "hint": Term(toys.Hint())}
    tx, batch = optax.sgd(0.1, momentum=0.9), toys.shapes(toys.batch(8))
    return jax.eval_shape(lambda: init_state(networks, terms, tx, batch, key=jax.random.key(0)))


def placed(shapes, *entries, **cast):
    """The specs of every array that is split, by name, on two by two by two devices."""
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    own = {
        "student": NetworkRules(axes=()),
        "teacher": NetworkRules(axes=()),
        "slow": NetworkRules(axes=(), leader="student"),
    }
    partitioner = Partitioner(mesh, Rules.parse(entries), own | cast)
    state, frozen = shapes
    found, matched = {}, set()
    for tree in (state, {"frozen": frozen}):
        partition = partitioner.partition(tree)
        matched |= partition.matched
        for path, where in jax.tree_util.tree_leaves_with_path(partition.shardings):
            if any(where.spec):
                found[partitioning.path_name(path)] = where
    assert not list(partitioner.unmatched(matched))
    return found


CONV, DENSE = "Conv_0/kernel", "Dense_0/kernel"
COPIES = {f"{start}student/{CONV}" for start in ("params/", "opt_state/0/trace/")} | {f"variables/slow/params/{CONV}"}


def test_a_rule_addresses_one_network_or_one_role(shapes):
    spec = (None, None, None, "fsdp")
    assert placed(shapes, ("^params/student/.*Conv_0/kernel", spec)).keys() == COPIES
    assert placed(shapes, ("frozen/teacher/params/Conv_0/kernel", spec)).keys() == {f"frozen/teacher/params/{CONV}"}
    assert placed(shapes, ("^opt_state/.*Conv_0/kernel", spec)).keys() == {f"opt_state/0/trace/student/{CONV}"}
    assert placed(shapes, ("slow/params/Conv_0/kernel", spec)).keys() == {f"variables/slow/params/{CONV}"}


def test_networks_have_rules_of_their_own(shapes):
    own = NetworkRules(Rules.parse(["tensor"]), axes=())
    found = placed(shapes, "fsdp:1", teacher=own)
    teachers = {name: where.spec for name, where in found.items() if "teacher" in name}
    assert teachers == {f"frozen/teacher/params/{CONV}": P(None, None, None, "tensor")}  # 3 classes cannot be halved
    assert found[f"params/student/{CONV}"].spec == P(None, None, None, "fsdp")
    assert not any(
        "teacher" in name for name in placed(shapes, "fsdp:1", teacher=NetworkRules(Rules.parse(["replicated"])))
    )


def test_moments_of_a_network_with_rules_of_its_own_are_not_the_stages(shapes):
    replicated = NetworkRules(Rules.parse(["replicated"]), axes=())
    found = placed(shapes, ("Conv_0/kernel$", (None, None, None, "fsdp")), student=replicated)
    assert [name for name in found if "/student/" in name] == []
    assert f"frozen/teacher/params/{CONV}" in found


def test_fsdp_splits_the_largest_dimension_of_large_arrays(shapes):
    found = placed(shapes, "fsdp:72")
    assert found.keys() == COPIES | {
        f"frozen/teacher/params/{CONV}",
        "params/hint/adapter/kernel",
        "opt_state/0/trace/hint/adapter/kernel",
    }
    assert found["params/hint/adapter/kernel"].spec == P(None, "fsdp")
    assert {where.spec for name, where in found.items() if "Conv_0" in name} == {P(None, None, None, "fsdp")}


def test_tensor_and_fsdp_split_one_array_twice():
    width = {"embed": {"embedding": (12, 8)}, "block0": {"feed_forward": {"up": {"kernel": (8, 32), "bias": (32,)}}}}
    width["block0"]["attention"] = {"query": {"kernel": (8, 4, 2)}, "key": {"kernel": (8, 3, 2)}}
    width["blocks"] = {"attention": {"out": {"kernel": (16, 4, 2, 8)}}, "norm1": {"scale": (16, 8)}}
    shape = lambda tree: jax.tree.map(  # noqa: E731
        lambda size: jax.ShapeDtypeStruct(size, jnp.float32), tree, is_leaf=lambda x: isinstance(x, tuple)
    )
    state = State(None, None, {"student": shape(width)}, {}, ())
    found = placed((state, {}), "fsdp:1", "tensor", student=NetworkRules(axes=transformer.AXES))
    assert {name.removeprefix("params/student/"): where.spec for name, where in found.items()} == {
        "embed/embedding": P("tensor", "fsdp"),
        "block0/attention/query/kernel": P("fsdp", "tensor", None),
        "block0/attention/key/kernel": P("fsdp", None, None),  # 3 heads cannot be halved
        "block0/feed_forward/up/kernel": P("fsdp", "tensor"),
        "block0/feed_forward/up/bias": P("tensor"),
        "blocks/attention/out/kernel": P(None, "tensor", None, "fsdp"),  # layers are never split
        "blocks/norm1/scale": P(None, "fsdp"),
    }


def test_only_what_is_frozen_is_in_the_hosts_memory(shapes):
    found = placed(
        shapes,
        "fsdp:72",
        teacher=NetworkRules(axes=(), offload=True),
        student=NetworkRules(axes=(), offload=True),
    )
    kinds = {name: where.memory_kind for name, where in found.items()}
    assert {name for name, kind in kinds.items() if kind == partitioning.HOST} == {f"frozen/teacher/params/{CONV}"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("fsdp:1000000", "sharding='fsdp' splits no array: none of 1,000,000 numbers or more"),
        ("tensor", "sharding='tensor' splits no array"),
    ],
)
def test_a_set_that_splits_nothing(entry, message):
    with pytest.raises(UserError, match=message):
        partitioning.shardings(sharding.make_mesh({"data": 2, "fsdp": 2, "tensor": 2}), TREE, [entry])


def test_one_device_needs_no_split():
    one = sharding.make_mesh({}, jax.devices()[:1])
    assert partitioning.shardings(one, TREE, ["fsdp", "tensor"])["student"]["Conv_0"]["kernel"].spec == P(*[None] * 4)
    partitioning.check_axes(one, {"data": -1, "fsdp": 1}, Rules.parse(["fsdp"]))
    with pytest.raises(UserError, match="'fsdp', which has one device. Set mesh.fsdp"):
        partitioning.check_axes(sharding.make_mesh({"data": 8}), {"data": -1, "fsdp": 1}, Rules.parse(["fsdp"]))
