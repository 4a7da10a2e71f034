"""Every mode through the one step, and what the step promises of all of them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import toys
from jaxdistill import core
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.dist import DIST
from jaxdistill.methods.kd import KD
from jaxdistill.methods.weak_to_strong import WeakToStrong
from jaxdistill.modules.heads import Linear
from jaxdistill.networks import Delayed, Ema, Ensemble, Frozen, Function, Head, Shared, Trained, dependencies, in_order
from jaxdistill.train.init import init_state
from jaxdistill.train.step import make_loss, make_step

TASK = Term(CrossEntropy(), teacher=None)
NET, LARGE = toys.Net(norm=True, dropout=0.1), toys.Net(width=9, norm=True)

MODES = {
    "offline": (
        {"teacher": Frozen(LARGE), "student": Trained(NET)},
        {"task": TASK, "kd": Term(KD())},
    ),
    "two teachers": (
        {"a": Frozen(LARGE), "b": Frozen(NET), "teacher": Ensemble(("a", "b")), "student": Trained(NET)},
        {"kd": Term(KD()), "kd_b": Term(KD(), teacher="b")},
    ),
    "mutual": (
        {"student": Trained(NET), "peer": Trained(LARGE)},
        {
            "task": TASK,
            "peer_task": Term(CrossEntropy(), student="peer", teacher=None),
            "kd": Term(KD(), teacher="peer"),
            "kd_back": Term(KD(), student="peer", teacher="student"),
        },
    ),
    "mean teacher": (
        {"student": Trained(NET), "teacher": Ema(of="student")},
        {"task": TASK, "kd": Term(KD())},
    ),
    "exits": (
        {"student": Trained(NET), "exit": Head("student", "stage1", Linear(toys.CLASSES))},
        {"task": TASK, "kd": Term(KD(), student="exit", teacher="student")},
    ),
    "two views": (
        {"student": Trained(NET), "again": Shared(of="student", input="image2")},
        {"task": TASK, "consistency": Term(KD(), student="student", teacher="again")},
    ),
    "hint": (
        {"teacher": Frozen(LARGE), "student": Trained(NET)},
        {"task": TASK, "hint": Term(toys.Hint(noise=0.1))},
    ),
    "label-free": ({"teacher": Frozen(LARGE), "student": Trained(NET)}, {"kd": Term(KD())}),
    "peers learn from their ensemble": (
        {"student": Trained(NET), "peer": Trained(LARGE), "all": Ensemble(("student", "peer"), weighting="entropy")},
        {
            "task": TASK,
            "peer_task": Term(CrossEntropy(), student="peer", teacher=None),
            "kd": Term(KD(), teacher="all"),
            "kd_peer": Term(KD(), student="peer", teacher="all"),
        },
    ),
    "codistillation": (
        {
            "student": Trained(NET),
            "peer": Trained(LARGE),
            "old_student": Delayed(of="student", every=3),
            "old_peer": Delayed(of="peer", every=3),
        },
        {
            "task": TASK,
            "peer_task": Term(CrossEntropy(), student="peer", teacher=None),
            "kd": Term(KD(), teacher="old_peer", weight=lambda step: 0.5 * (step >= 3)),
            "kd_peer": Term(KD(), student="peer", teacher="old_student", weight=lambda step: 0.5 * (step >= 3)),
        },
    ),
    "the teacher trains while it teaches": (
        {"teacher": Trained(LARGE), "student": Trained(NET)},
        {
            "task": TASK,
            "teacher_task": Term(CrossEntropy(), student="teacher", teacher=None),
            "kd": Term(KD()),
            "back": Term(KD(), student="teacher", teacher="student", weight=lambda step: 0.1),
        },
    ),
    "weak to strong": (
        {"teacher": Frozen(toys.Net(width=2)), "student": Trained(LARGE)},
        {"kd": Term(WeakToStrong(confidence=0.3))},
    ),
    "a function teaches": (
        {"teacher": Function(lambda x: 9 * x[:, 0, : toys.CLASSES, 0]), "student": Trained(NET)},
        {"task": TASK, "kd": Term(KD())},
    ),
}


def views(**more):
    return toys.batch(image2=toys.batch(seed=5)["image"], **more)


@pytest.mark.parametrize("mode", MODES)
def test_mode(mode, compiled):
    """Ten steps of the one step lower the loss; only what should learn moves, and each compiles once."""
    networks, terms = MODES[mode]
    networks, tx, batch = in_order(networks), optax.sgd(0.2), views()
    state, frozen = toys.start(networks, terms, tx, batch)
    first, before = state, jax.tree.map(np.array, frozen)
    step = jax.jit(make_step(networks, terms, tx))
    losses = []
    for _ in range(10):
        state, metrics = step(state, frozen, batch)
        losses.append(float(metrics["loss"]))
    assert compiled("step") == 1
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    assert toys.same(frozen, before)
    assert int(state.step) == 10
    trained = {name for name, source in networks.items() if type(source) in (Trained, Head)}
    assert set(state.params) == trained | {name for name in terms if name == "hint"}
    for name, params in state.params.items():
        assert not toys.same(params, first.params[name]), name
    assert set(metrics) == {*terms, "loss", "grad_norm", "weight_norm"}


@pytest.mark.parametrize("mode", MODES)
def test_the_gradient_reaches_only_what_should_learn(mode):
    """Of each term: its student and what that is made of, and its own adapters; no teacher, whatever else it is."""
    networks, terms = MODES[mode]
    networks, batch = in_order(networks), views()
    state, frozen = toys.start(networks, terms, optax.sgd(0.1), batch)
    keys = core.fold_in(jax.random.key(3), [*networks, *terms])
    for name, term in terms.items():
        alone = {name: dataclasses.replace(term, weight=lambda step: 1.0)}
        loss = make_loss(networks, alone)
        moment = {"keys": keys, "step": state.step, "totals": {name: jnp.float32(len(batch["mask"]))}}
        grads = jax.grad(loss, has_aux=True)(state.params, state.variables, frozen, batch, **moment)[0]
        reached = {key for key, grad in grads.items() if any((leaf != 0).any() for leaf in jax.tree.leaves(grad))}
        wanted = {n for n, source in dependencies(networks, [term.student]).items() if source.learns} | {name}
        assert reached == wanted & set(grads), name


def test_statistics_of_students_are_state():
    networks, terms = MODES["offline"]
    tx, batch = optax.sgd(0.0), views()
    state, frozen = toys.start(networks, terms, tx, batch)
    after, _ = jax.jit(make_step(networks, terms, tx))(state, frozen, batch)
    statistics = after.variables["student"]["batch_stats"]["BatchNorm_0"]
    convolved = jax.lax.conv_general_dilated(
        batch["image"],
        state.params["student"]["Conv_0"]["kernel"],
        (1, 1),
        "SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_allclose(statistics["mean"], 0.1 * convolved.mean((0, 1, 2)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(statistics["var"], 0.9 + 0.1 * convolved.var((0, 1, 2)), rtol=1e-5)
    assert toys.same(after.params, state.params)


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_equals_the_large_batch(parts):
    """Also where masks and hidden labels leave the micro-batches unequal, and with clipping and EMA."""
    net = toys.Net()
    networks = in_order(
        {
            "teacher": Frozen(LARGE),
            "student": Trained(net),
            "slow": Ema(of="student"),
        }
    )
    terms = {"task": Term(CrossEntropy(0.1), teacher=None), "kd": Term(KD()), "hint": Term(toys.Hint())}
    batch = toys.batch(mask=jnp.array([1, 1, 0, 1, 0, 0, 0, 1.0]))
    batch["label"] = batch["label"].at[0].set(core.UNLABELLED)
    tx = optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(0.3, momentum=0.9))
    state, frozen = toys.start(networks, terms, tx, batch)
    whole, expected = jax.jit(make_step(networks, terms, tx))(state, frozen, batch)
    split, metrics = jax.jit(make_step(networks, terms, tx, accumulate=parts))(state, frozen, batch)
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=2e-6, err_msg=name)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), whole.params, split.params)
    assert int(split.variables["hint"]["memory"]["seen"]) == 8


def test_padding_changes_nothing():
    networks, terms = {"teacher": Frozen(LARGE), "student": Trained(toys.Net())}, {"task": TASK, "kd": Term(KD())}
    batch = toys.batch(6)
    padded = {k: jnp.concatenate([v, 7 * jnp.ones_like(v[:2])]) for k, v in batch.items()}
    padded["mask"] = jnp.array([1.0] * 6 + [0.0] * 2)
    padded["label"] = padded["label"].at[6:].set(0)
    tx = optax.sgd(0.1)
    state, frozen = toys.start(networks, terms, tx, batch)
    step = jax.jit(make_step(networks, terms, tx))
    want, expected = step(state, frozen, batch)
    got, metrics = step(state, frozen, padded)
    np.testing.assert_allclose(metrics["loss"], expected["loss"], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), got.params, want.params)


def test_weights_follow_the_optimizer_step_and_are_not_in_the_logged_value():
    networks = {"teacher": Frozen(LARGE), "student": Trained(toys.Net())}
    terms = {"task": TASK, "kd": Term(KD(), weight=lambda step: 10.0 * step)}
    tx, batch = optax.sgd(0.0), toys.batch()
    state, frozen = toys.start(networks, terms, tx, batch)
    for parts in (1, 2):
        now, step = state, jax.jit(make_step(networks, terms, tx, accumulate=parts))
        for number in range(3):
            now, metrics = step(now, frozen, batch)
            np.testing.assert_allclose(
                metrics["loss"], metrics["task"] + 10.0 * number * metrics["kd"], rtol=1e-5, err_msg=str(parts)
            )


def test_compute_dtype_leaves_parameters_losses_and_optimizer_in_float32():
    networks = {"teacher": Frozen(toys.Net(dtype=jnp.bfloat16)), "student": Trained(toys.Net(dtype=jnp.bfloat16))}
    terms, tx, batch = {"task": TASK, "kd": Term(KD())}, optax.adam(1e-2), toys.batch()
    state, frozen = toys.start(networks, terms, tx, batch)
    state, metrics = jax.jit(make_step(networks, terms, tx))(state, frozen, batch)
    floats = [x for x in jax.tree.leaves((state, metrics)) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert {x.dtype for x in floats} == {jnp.dtype(jnp.float32)}
    module = networks["student"].module
    raw = module.apply({"params": state.params["student"]}, batch["image"])
    assert raw.logits.dtype == jnp.bfloat16
    said, _ = networks["student"]({"params": state.params["student"]}, batch, {}, None)
    assert {x.dtype for x in jax.tree.leaves(said)} == {jnp.dtype(jnp.float32)}


def test_randomness_is_a_function_of_seed_step_and_name():
    networks, terms = MODES["hint"]
    tx, batch = optax.sgd(0.0), views()
    state, frozen = toys.start(networks, terms, tx, batch)
    step = jax.jit(make_step(networks, terms, tx))
    one, first = step(state, frozen, batch)
    _, again = step(state, frozen, batch)
    _, second = step(one.replace(variables=state.variables), frozen, batch)
    assert float(first["hint"]) == float(again["hint"])
    assert float(first["hint"]) != float(second["hint"])
    more = {"extra": Trained(NET)} | networks  # another network in the cast moves nobody's draws
    wider, frozen = toys.start(more, terms, tx, batch)
    assert toys.same(wider.params["student"], state.params["student"])
    _, beside = make_step(more, terms, tx)(wider, frozen, batch)
    # Another program, so other last bits; other draws would differ in the first digit.
    np.testing.assert_allclose(beside["hint"], first["hint"], rtol=1e-6)


class MeanKD(KD):
    def __call__(self, student, teacher, batch):
        return jnp.mean(super().__call__(student, teacher, batch))


NETWORKS = {"teacher": Frozen(LARGE), "student": Trained(NET)}


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"student": TASK}, r"terms\.student must have a name that no network has"),
        (
            {"kd": Term(KD(), teacher="teachr")},
            r"terms\.kd\.teacher must be .* got 'teachr'. Did you mean 'teacher'",
        ),
        ({"kd": Term(KD(), student="studnt")}, r"terms\.kd\.student must be a network, got 'studnt'. Did you mean"),
        ({"kd": Term(KD(), teacher=None)}, r"terms\.kd\.teacher must be a network, got None: KD needs a teacher"),
    ],
)
def test_names_of_terms_are_checked_without_a_config(terms, message):
    with pytest.raises(UserError, match=message):
        make_step(NETWORKS, terms, optax.sgd(0.1))
    with pytest.raises(UserError, match=message):
        init_state(NETWORKS, terms, optax.sgd(0.1), {}, key=jax.random.key(0))


def test_a_method_without_a_teacher_has_none_by_default():
    assert Term(CrossEntropy()).teacher is None
    assert Term(KD()).teacher == "teacher"
    make_step({"student": Trained(NET)}, {"task": Term(CrossEntropy())}, optax.sgd(0.1))


def test_a_method_that_compares_rows_is_refused_with_micro_batches():
    with pytest.raises(UserError, match="accumulate must be 1 with term 'dist', got 2: DIST compares the rows"):
        make_step(NETWORKS, {"task": TASK, "dist": Term(DIST())}, optax.sgd(0.1), accumulate=2)


def test_a_method_that_returns_a_mean_is_refused():
    networks, tx, batch = {"student": Trained(toys.Net()), "teacher": Frozen(toys.Net())}, optax.sgd(0.1), toys.batch()
    terms = {"kd": Term(MeanKD())}
    state, frozen = jax.eval_shape(lambda: init_state(networks, terms, tx, batch, key=jax.random.key(0)))
    with pytest.raises(UserError, match=r"terms\.kd must return one value per prediction \[\d+\], got \[\]"):
        jax.eval_shape(make_step(networks, terms, tx), state, frozen, batch)
