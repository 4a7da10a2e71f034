"""One device equals many, however the arrays are split."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import optax
import pytest

import toy_texts
import toys
from jaxdistill.build import weights
from jaxdistill.core import Term
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.methods.kd import KD
from jaxdistill.methods.seed import SEED
from jaxdistill.models.decoder import Decoder
from jaxdistill.models.encoder import Encoder
from jaxdistill.models.mlp import MLP
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.networks import Ema, Frozen, Trained
from jaxdistill.train import checkpoint, partitioning
from jaxdistill.train import mesh as sharding
from jaxdistill.train.checkpoint import Checkpoints
from jaxdistill.train.init import compiler_options, init_state
from jaxdistill.train.step import make_step

WORDS, ROWS = 16, 16


@dataclasses.dataclass(frozen=True)
class Case:
    """What is trained: networks, terms and a batch."""

    networks: dict[str, Any]
    terms: dict[str, Any]
    batch: dict[str, Any]


def texts(classes):
    tokens = jax.random.randint(jax.random.key(3), (ROWS, 6), 0, WORDS)
    return toys.batch(ROWS, classes=classes) | {"tokens": tokens}


def read(model, source=Trained):
    return source(model, input="tokens")


def conv():
    student = Trained(toys.Net(width=8, norm=True))
    return Case(
        {
            "teacher": Frozen(toys.Net(width=16, norm=True)),
            "student": student,
            "slow": Ema(of="student", decay=0.5),
        },
        {"task": Term(CrossEntropy(), teacher=None), "kd": Term(KD()), "slow_kd": Term(KD(), teacher="slow")},
        toys.batch(ROWS),
    )


def mlp():
    """With adapters and memories: a queue of what the teacher said, and a count."""
    return Case(
        {"teacher": Frozen(MLP(3, (16,))), "student": Trained(MLP(3, (8,)))},
        {
            "task": Term(CrossEntropy(), teacher=None),
            "seed": Term(SEED(queue=32)),
            "hint": Term(toys.Hint()),
        },
        toys.batch(ROWS),
    )


def decoder():
    """The logits of neither side are ever there: the loss goes over the vocabulary some tokens at a time."""
    small = {"heads": 4, "hidden": 16}
    teacher = Decoder(WORDS, layers=2, width=16, key_heads=2, scan=True, **small, **toy_texts.LLAMA)
    return Case(
        {"teacher": read(teacher, Frozen), "student": read(Decoder(WORDS, layers=1, width=8, length=6, **small))},
        {
            "task": Term(CrossEntropy(chunk=32), teacher=None),
            "kd": Term(ForwardKL(temperature=2.0, chunk=32)),
        },
        align_next_tokens(texts(WORDS)),
    )


def encoder():
    """A student whose layers are scanned, and computed again in the backward pass."""
    small = {"vocabulary": WORDS, "heads": 4, "hidden": 16, "length": 6, "width": 8}
    return Case(
        {
            "teacher": read(Encoder(4, layers=1, **small), Frozen),
            "student": read(Encoder(4, layers=2, scan=True, remat="block", **small)),
        },
        {"task": Term(CrossEntropy(), teacher=None), "kd": Term(KD())},
        texts(4),
    )


MESHES = {
    "data": ({"data": 8}, []),
    "fsdp": ({"fsdp": 8}, ["fsdp:16"]),
    "tensor": ({"data": 2, "tensor": 4}, ["tensor"]),
    "mixed": ({"data": 2, "fsdp": 2, "tensor": 2}, ["tensor", "fsdp:16"]),
}
CASES = {case.__name__: case for case in (conv, mlp, decoder, encoder)}


SLOW = pytest.mark.slow


@pytest.fixture(
    scope="module", params=["conv", pytest.param("mlp", marks=SLOW), "decoder", pytest.param("encoder", marks=SLOW)]
)
def trained(request):
    """A case, its start as arrays of the host, and what one device finds."""
    case = CASES[request.param]()
    # SGD: where the true gradient is 0, Adam makes a step of the noise of float32.
    tx = optax.sgd(0.1, momentum=0.9)

    def init():
        return init_state(case.networks, case.terms, tx, case.batch, key=jax.random.key(0))

    state, frozen = jax.jit(init, compiler_options=compiler_options())()
    # Teachers as they are drawn say much the same of everything.
    start = state, jax.tree.map(lambda x: 5 * x if x.ndim > 1 else x, frozen)
    one = sharding.make_mesh({}, jax.devices()[:1])
    return case, tx, start, train(case, tx, start, one, partitioning.Partitioner(one, partitioning.Rules()))


def own(source):
    module = getattr(source, "module", None)
    return partitioning.NetworkRules(axes=getattr(module, "axes", ()), leader=getattr(source, "of", ""))


def train(case, tx, start, mesh, partitioner, steps=4):
    """Trains; returns the losses, the state, its planned shardings and those of the gradients, by name."""
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), start)
    state_partition, frozen_partition = (partitioner.partition(x) for x in (shapes[0], {"frozen": shapes[1]}))
    placed = state_partition.shardings, frozen_partition.shardings["frozen"]
    host = jax.tree.map(np.array, (start[0].replace(key=jax.random.key_data(start[0].key)), start[1]))
    keys = partitioner.partition({"key": host[0].key}).shardings["key"]
    state, frozen = jax.device_put(host, (placed[0].replace(key=keys), placed[1]))
    state = state.replace(key=jax.random.wrap_key_data(state.key))
    seen = {}

    def look(path, x):
        jax.debug.inspect_array_sharding(x, callback=functools.partial(seen.__setitem__, partitioning.path_name(path)))

    def update(grads, opt_state, params):
        jax.tree_util.tree_map_with_path(look, grads)
        return tx.update(grads, opt_state, params)

    step = make_step(case.networks, case.terms, optax.GradientTransformation(tx.init, update))
    step = jax.jit(step, donate_argnums=0, out_shardings=(placed[0], sharding.replicated(mesh)))
    batch = sharding.put(mesh, jax.tree.map(np.asarray, case.batch))
    losses = []
    for _ in range(steps):
        state, metrics = step(state, frozen, batch)
        losses.append([float(metrics[name]) for name in ("loss", *case.terms)])
    return losses, state, placed[0], seen


@pytest.mark.parametrize("mesh", [name if name == "mixed" else pytest.param(name, marks=SLOW) for name in MESHES])
def test_one_device_equals_many(mesh, trained):
    """Batch statistics, memories and chunks of tokens too are those of the global batch, wherever its rows are."""
    case, tx, start, (expected, alone, _, _) = trained
    sizes, entries = MESHES[mesh]
    many = sharding.make_mesh(sizes)
    partitioner = partitioning.Partitioner(
        many, partitioning.Rules.parse(entries), {name: own(n) for name, n in case.networks.items()}
    )
    losses, state, planned, seen = train(case, tx, start, many, partitioner)
    shapes = jax.eval_shape(lambda: start)
    matched = [partitioner.partition(tree).matched for tree in (shapes[0], {"frozen": shapes[1]})]
    assert not list(partitioner.unmatched(matched[0] | matched[1]))
    np.testing.assert_allclose(losses, expected, rtol=2e-5, atol=1e-6)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(near, jax.device_get(state.params), jax.device_get(alone.params))
    jax.tree.map(near, jax.device_get(state.variables), jax.device_get(alone.variables))

    def stays(array, where):
        assert array.sharding.is_equivalent_to(where, array.ndim)
        assert array.addressable_shards[0].data.shape == where.shard_shape(array.shape)

    jax.tree.map(stays, state, planned)
    for path, array in jax.tree_util.tree_leaves_with_path(state.params):
        if array.ndim > 1:
            most = array.addressable_shards[0].data.size
            assert np.prod(seen[partitioning.path_name(path)].shard_shape(array.shape)) <= most, path


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    """Two steps on eight devices, everything split, and a checkpoint; the losses, the state and the folder."""
    folder = tmp_path_factory.mktemp("saved")
    case, tx, start, _ = trained
    eight = sharding.make_mesh({"fsdp": 8})
    place = partitioning.Partitioner(eight, partitioning.Rules.parse(["fsdp:16"]))
    losses, state, *_ = train(case, tx, start, eight, place, steps=2)
    with Checkpoints(folder) as kept:
        kept.save(2, state, {}, {"networks": ["student", "slow"]})
    return losses, state, folder


def structs(start, mesh, *entries):
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), start[0])
    return sharding.structs(shapes, partitioning.shardings(mesh, shapes, entries))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "entries"),
    [
        ({"data": 2, "tensor": 2}, [("Conv_0/kernel", (None, None, None, "tensor"))]),
        pytest.param({"fsdp": 4}, ["fsdp:16"], marks=SLOW),
        pytest.param({"data": 2}, [], marks=SLOW),
        pytest.param({}, [], marks=SLOW),
    ],
    ids=["data_tensor", "fsdp", "two", "one"],
)
@pytest.mark.parametrize("trained", ["conv"], indirect=True)
def test_a_checkpoint_goes_on_with_another_mesh_and_number_of_devices(sizes, entries, trained, saved):
    case, tx, start, (expected, alone, _, _) = trained
    losses, state, folder = saved
    mesh = sharding.make_mesh(sizes, jax.devices()[: int(np.prod(list(sizes.values())))])
    with Checkpoints(folder) as kept:
        back = kept.restore(2, structs(start, mesh, *entries))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), *map(checkpoint.flatten, (back, state)))
    place = partitioning.Partitioner(mesh, partitioning.Rules.parse(entries))
    more, state, *_ = train(case, tx, (back, start[1]), mesh, place, steps=2)
    np.testing.assert_allclose(losses + more, expected, rtol=2e-5, atol=1e-6)
    near = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(near, jax.device_get(state.params), jax.device_get(alone.params))


@pytest.mark.parametrize("trained", ["conv"], indirect=True)
def test_a_network_starts_from_a_checkpoint_of_another_mesh(trained, saved):
    """It is read in the pieces in which it will live, by no way round."""
    start, (_, state, folder) = trained[2], saved
    mesh = sharding.make_mesh({"data": 2, "tensor": 2}, jax.devices()[:4])
    own = {"params": start[0].params["student"], **start[0].variables["student"]}
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), own)
    placed = partitioning.shardings(mesh, shapes, [("Conv_0/kernel", (None, None, None, "tensor"))])
    place = weights.CheckpointRef(folder / checkpoint.FOLDER, 2, "student")
    found = weights.read(place, sharding.structs(shapes, placed))
    kernel = found["params"]["Conv_0"]["kernel"]
    np.testing.assert_array_equal(kernel, state.params["student"]["Conv_0"]["kernel"])
    assert {shard.data.shape for shard in kernel.addressable_shards} == {(3, 3, 1, 4)}


def test_a_network_can_live_in_the_hosts_memory():
    """What it says is the same, its digest too, and it stays there."""
    net, images = toys.Net(), toys.batch(8)
    mesh = sharding.make_mesh({"fsdp": 8})
    variables = net.init(jax.random.key(0), images["image"])
    place = partitioning.Partitioner(mesh, partitioning.Rules(), {"teacher": partitioning.NetworkRules(offload=True)})
    away = jax.device_put(variables, place.partition({"frozen": {"teacher": variables}}).shardings["frozen"]["teacher"])
    expected, _ = Frozen(net)(variables, images, {}, None)
    said, _ = jax.jit(lambda known, batch: Frozen(net, offload=True)(known, batch, {}, None))(away, images)
    np.testing.assert_allclose(said.logits, expected.logits, rtol=1e-5, atol=1e-6)
    assert {x.sharding.memory_kind for x in jax.tree.leaves(away)} == {partitioning.HOST}
    digests = [checkpoint.digests(checkpoint.flatten(tree)) for tree in (variables, away)]
    assert digests[0] == digests[1]
