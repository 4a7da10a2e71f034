"""Teachers by example: the output of each row, the metrics of each teacher, and weights that come one by one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toys
from jaxdistill.core import Output, Term
from jaxdistill.errors import UserError
from jaxdistill.methods.kd import KD
from jaxdistill.networks import Context, Frozen, Routed, Trained, in_order
from jaxdistill.train import mesh, partitioning, step

CONTEXT = Context(3, None, routes=("de", "en", "fr"))
OPTIONS = {"of": ("de", "other", "other"), "values": ("de", "fr", "en"), "resident": "all"}
BATCH = toys.batch(8) | {"route": jnp.array([0, 1, 2, 2, 0, 1, 1, 2], jnp.int32)}


def test_each_row_is_of_the_network_of_its_value():
    source = Routed.build("teacher", OPTIONS, CONTEXT)
    assert source.routes == (0, 1, 1)
    assert source.needs == ("de", "other", "other")
    taps = [{"pooled": jnp.full((3, 2), n), "map": jnp.zeros((3, n + 1))} for n in range(2)]
    outputs = {name: Output(jnp.full((3, 2), 10.0 * n), taps[n]) for n, name in enumerate(("de", "other"))}
    output = source({}, {"route": jnp.array([2, 0, 1])}, outputs, None)[0]
    assert output.logits[:, 0].tolist() == [10, 0, 10]
    assert output.tap("pooled")[:, 0].tolist() == [1, 0, 1]
    with pytest.raises(UserError, match="tap must be a tap|'map'"):  # of another shape in the two
        output.tap("map")


def test_mistakes_before_anything_runs():
    def build(routes=CONTEXT.routes, **changes):
        return Routed.build("teacher", OPTIONS | changes, dataclasses.replace(CONTEXT, routes=routes))

    with pytest.raises(
        UserError, match=r"networks.teacher.values must be all values of data.route, got none of \['it'"
    ):
        build(routes=("de", "it"))
    with pytest.raises(UserError, match="must be 3 different values of data.route, one for each network"):
        build(values=("de", "fr"))
    with pytest.raises(UserError, match="must be 2 different values"):
        build(of=("de", "de"), values=("en", "en"))
    with pytest.raises(
        UserError, match="data.route must be a column whose values choose a network of networks.teacher"
    ):
        build(routes=())
    assert build(routes=("0", "1"), of=("a", "b"), values=(0, 1)).routes == (0, 1)
    assert build().notes == ()
    assert build(routes=("de",)).notes == (
        "values has ['fr', 'en'], which no row of the data has in the column data.route",
    )
    source, nets = build(resident="one"), {"de": Frozen(toys.Net(), offload=True), "other": Frozen(toys.Net())}
    with pytest.raises(UserError, match=r"networks.teacher.of must be frozen networks .* got 'other'"):
        in_order({**nets, "teacher": source})
    with pytest.raises(UserError, match="a batch must have the field 'route'"):
        source({}, {}, {}, None)


def make(resident, terms=("kd",)):
    offload = resident == "one"
    networks = {
        "student": Trained(toys.Net()),
        "de": Frozen(toys.Net(width=6), offload=offload),
        "other": Frozen(toys.Net(width=7), offload=offload),
        "teacher": Routed.build("teacher", OPTIONS | {"resident": resident}, CONTEXT),
    }
    return networks, {name: Term(KD(temperature=2.0)) for name in terms}


def run_steps(resident, *, accumulate=1, devices=1, steps=2):
    """Returns state and metrics after some steps, and the compiled step."""
    networks, terms = make(resident)
    tx = optax.sgd(0.1)
    state, frozen = toys.start(networks, terms, tx, BATCH)
    axes = mesh.make_mesh({"data": devices}, jax.devices()[:devices])
    rules = {name: partitioning.NetworkRules(offload=resident == "one") for name in ("de", "other")}
    places = partitioning.Partitioner(axes, partitioning.Rules(), rules).partition({"frozen": frozen}).shardings
    frozen = jax.device_put(frozen, places["frozen"])
    state, batch = mesh.everywhere(axes, state), mesh.put(axes, {name: np.asarray(x) for name, x in BATCH.items()})
    make_step = step.make_step(networks, terms, tx, accumulate=accumulate)

    def train(state, frozen, batch):
        return make_step(state, frozen, batch | {"mask": jnp.ones(8)})  # a constant, as in training

    compiled = jax.jit(mesh.traced_on(axes, train)).lower(state, frozen, batch).compile()
    for _ in range(steps):
        state, metrics = compiled(state, frozen, batch)
    return state, metrics, compiled


@pytest.fixture(scope="module")
def resident():
    return run_steps("all")


def test_one_resident_network_gives_the_same_bits(resident):
    state, metrics, compiled = run_steps("one")
    assert toys.same((state.params, metrics), (resident[0].params, resident[1]))
    counts = [compiled.as_text().count(" conditional(") for compiled in (resident[2], compiled)]
    assert counts == [2, 2]  # a computation for each network, into which its weights are brought


def test_parts_of_the_loss_carry_the_names_of_the_teachers(resident):
    """In the first step: the mean of the rows of each, times its share of them."""
    metrics = resident[1]
    assert float(metrics["kd/de/share"]) == 0.25
    assert float(metrics["kd/other/share"]) == 0.75
    np.testing.assert_allclose(metrics["kd/de"] + metrics["kd/other"], metrics["kd"], rtol=1e-6)
    assert 0 < float(metrics["kd/de"]) < float(metrics["kd/other"])


@pytest.mark.slow
@pytest.mark.parametrize(("accumulate", "devices"), [(2, 1), (1, 4), (2, 4)])
def test_micro_batches_and_devices_change_nothing(resident, accumulate, devices):
    state, metrics, _ = run_steps("one", accumulate=accumulate, devices=devices)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), metrics, resident[1])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), state.params, resident[0].params)
