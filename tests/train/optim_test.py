"""Optimizers and schedules by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdistill import core
from jaxdistill.config import members
from jaxdistill.config.members import OptimizerConfig, ScheduleConfig
from jaxdistill.errors import UserError
from jaxdistill.train import optim


def schedule(spec, length=100):
    return optim.schedule(ScheduleConfig.parse(spec, "learning_rate"), length)


def optimizer(spec, rate):
    return optim.optimizer(OptimizerConfig.parse(spec, "optimizer"), rate)


def at(spec, *steps, length=100):
    function = schedule(spec, length)
    return [float(function(step)) for step in steps]


def test_schedules():
    np.testing.assert_allclose(at(0.3, 0, 50), [0.3, 0.3])
    cut = {"start": 0.1, "times": 0.1, "at": (10, 20)}
    np.testing.assert_allclose(at(cut, 0, 9, 11, 21), [0.1, 0.1, 0.01, 0.001], rtol=1e-6)
    np.testing.assert_allclose(at({"to": 1.0, "over": 10}, 0, 5, 10, 50), [0, 0.5, 1, 1])
    np.testing.assert_allclose(at({"start": 1.0, "to": 0.0, "over": 10}, 0, 5, 10), [1, 0.5, 0])
    cosine = {"name": "cosine_decay", "init_value": 2.0}
    np.testing.assert_allclose(at(cosine, 0, 50, 100), [2, 1, 0], atol=1e-6)  # over the whole run
    np.testing.assert_allclose(at(cosine | {"decay_steps": 50}, 25, 50), [1, 0], atol=1e-6)
    steps = {"values": (1.0, 3.0, 2.0), "at": (10, 20)}
    np.testing.assert_allclose(at(steps, 0, 9, 10, 19, 20, 99), [1, 1, 3, 3, 2, 2])
    np.testing.assert_allclose(at({"value": 0.5, "until": 60}, 0, 59, 60, 99), [0.5, 0.5, 0, 0])
    np.testing.assert_allclose(at({"to": 1.0, "over": 10, "until": 20}, 5, 19, 20), [0.5, 1, 0])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"name": "cosine_decy", "init_value": 1.0},
            "learning_rate.name must be a schedule, got 'cosine_decy'. Did you mean 'cosine_decay'",
        ),
        ({"name": "cosine_decay", "init_valu": 1.0}, "Did you mean 'init_value'"),
        ({"name": "cosine_decay"}, r"must have \['init_value'\]"),
        ({"start": 1.0}, "must be a number, a section of"),
        ({"values": (1.0, 2.0), "at": (3, 4)}, "2 values need 1 steps"),
        ({"values": (1.0, 2.0, 3.0), "at": (4, 3)}, "in order"),
        ({"values": (1.0, -5.0, 1.0), "at": (3, 4)}, "must be at least 0 and finite, got"),
        (
            "cosine_decay",
            "learning_rate must be a number or a section, got 'cosine_decay'. Set learning_rate.name",
        ),
        (
            {"name": "warmup_cosine_decay", "init_value": 0.0, "peak_value": 1.0, "warmup_steps": 100},
            r"longer than its warm-up, got warmup_steps=100 and decay_steps=10, the length of the stage. Shorten",
        ),
        ({"value": 1.0, "until": 0.5}, "until must be a whole number of steps, or have a unit .*, got 0.5"),
        ({"value": 1.0, "until": -3}, "until must be a whole number of steps, or have a unit .*, got -3"),
        ({"to": 1.0, "over": 0.5}, "over must be a whole number of steps, or have a unit .*, got 0.5"),
    ],
)
def test_bad_schedules(spec, message):
    with pytest.raises(UserError, match=message):
        schedule(spec, 10)


PARAMS = {"Dense_0": {"kernel": jnp.array([2.0]), "bias": jnp.array([1.0])}}


def update(spec, gradient=0.0, rate=0.5):
    tx = optimizer(spec, optax.constant_schedule(rate))
    grads = jax.tree.map(lambda x: jnp.full_like(x, gradient), PARAMS)
    updates, _ = tx.update(grads, tx.init(PARAMS), PARAMS)
    return float(updates["Dense_0"]["kernel"][0]), float(updates["Dense_0"]["bias"][0])


def test_weight_decay_by_hand():
    """Added to the gradient for sgd, as in PyTorch; decoupled for adamw; where the regex says."""
    assert update({"name": "sgd", "weight_decay": 0.1}) == pytest.approx((-0.1, -0.05))
    assert update({"name": "sgd", "weight_decay": 0.1, "decay_on": "kernel"}) == pytest.approx((-0.1, 0.0))
    assert update({"name": "adamw", "weight_decay": 0.1, "decay_on": "kernel"}) == pytest.approx((-0.1, 0.0))
    assert update({"name": "adamw"}) == pytest.approx((-0.5 * 1e-4 * 2, -0.5 * 1e-4))  # Optax's own default decays
    assert update({"name": "adamw", "weight_decay": 0.0}) == pytest.approx((0.0, 0.0))
    first = -0.5 * (3 + 0.9 * 3)  # Nesterov's first step looks ahead
    assert update({"name": "sgd", "momentum": 0.9, "nesterov": True}, 3.0)[0] == pytest.approx(first)


RATE = optax.constant_schedule(0.1)
TREE = {
    "student": {
        "conv": {"kernel": jnp.array([1.0, -2.0]), "bias": jnp.array([0.5, -1.0])},
        "head": {"kernel": jnp.array([2.0, 1.0]), "bias": jnp.array([-0.0, 3.0])},
    },
    "fitnet": {"kernel": jnp.array([1.5, -0.5])},
}
PATHS = [core.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(TREE)]


def gradients(tree, step=0):
    return jax.tree.map(lambda x: 0.1 * (step + 1) + 0.3 * jnp.cos(x), tree)


def steps(tx, params, count=2):
    state = tx.init(params)
    for step in range(count):
        updates, state = tx.update(gradients(params, step), state, params)
        params = optax.apply_updates(params, updates)
    return params


def grouped(spec, rate=0.1, length=10):
    config, rate = OptimizerConfig.parse(spec, "optimizer"), optax.constant_schedule(rate)
    return optim.optimizer(config, rate, optim.make_group_rates(config, rate, length)), optim.freezing(config)


def leaves(tree):
    return {core.path_name(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("name", sorted(optim.optimizers()))
def test_decay_on_reaches_every_optimizer(name):
    # The same gradients with and without decay: parameters that do not match must not differ by a bit.
    plain, decayed = (
        leaves(steps(optimizer({"name": name, "weight_decay": decay, "decay_on": "kernel$"}, RATE), TREE))
        for decay in (0.0, 0.5)
    )
    changed = {path for path in PATHS if not np.array_equal(plain[path], decayed[path])}
    # The sign of a gradient, which is all that sign_sgd and signum take, changes for some parameters alone.
    expected = {path for path in PATHS if path.endswith("kernel")}
    assert changed == expected or (name in ("sign_sgd", "signum") and changed and changed < expected)


def test_a_weight_decay_is_optaxs_default_unless_it_is_set():
    defaults = {name: OptimizerConfig.parse({"name": name}, "optimizer").weight_decay for name in optim.optimizers()}
    assert {name: decay for name, decay in defaults.items() if decay} == {"adamw": 1e-4, "adamaxw": 1e-4, "lion": 1e-3}


@pytest.mark.parametrize("name", ["sgd", "adamw", "lars", "novograd", "adafactor"])
def test_a_group_is_updated_as_by_an_optimizer_of_its_own_and_frozen_parameters_keep_their_bits(name):
    groups = {
        "frozen": {"pattern": "conv/bias|head/bias"},
        "slow": {"pattern": "student/conv", "learning_rate_factor": 0.5, "weight_decay": 0.3},
        "own": {"pattern": "fitnet", "learning_rate": {"start": 0.2, "to": 0.0, "over": 4}},
    }
    groups["frozen"]["frozen"] = True
    tx, _ = grouped({"name": name, "weight_decay": 0.1, "decay_on": "kernel$", "groups": groups})
    after, before = leaves(steps(tx, TREE)), leaves(TREE)
    alone = {
        "student/conv/kernel": ({"weight_decay": 0.3}, lambda step: 0.5 * 0.1),
        "fitnet/kernel": ({"weight_decay": 0.1}, schedule({"start": 0.2, "to": 0.0, "over": 4}, 10)),
        "student/head/kernel": ({"weight_decay": 0.1}, lambda step: 0.1),
    }
    for path, (spec, rate) in alone.items():
        own = steps(optimizer({"name": name} | spec, rate), {"kernel": before[path]})
        np.testing.assert_array_equal(after[path], own["kernel"])
        assert not np.array_equal(after[path], before[path])
    for path in ("student/conv/bias", "student/head/bias"):  # one of them is -0.0
        np.testing.assert_array_equal(after[path].view(np.uint32), before[path].view(np.uint32))


def test_frozen_parameters_have_no_gradient_so_that_they_count_in_no_norm():
    _, freeze = grouped({"name": "sgd", "groups": {"a": {"pattern": "student/conv", "frozen": True}}})
    grads = leaves(jax.grad(lambda params: sum(jnp.sum(x**2) for x in jax.tree.leaves(freeze(params))))(TREE))
    assert {path for path in PATHS if not grads[path].any()} == {"student/conv/kernel", "student/conv/bias"}


def test_a_group_leaves_out_what_it_names():
    spec = OptimizerConfig.parse(
        {"name": "sgd", "groups": {"a": {"pattern": "^student/", "but": "head", "frozen": True}}}, "optimizer"
    )
    tx = optim.optimizer(spec, optax.constant_schedule(0.1))
    after, before = leaves(steps(tx, TREE)), leaves(TREE)
    assert {path for path in PATHS if np.array_equal(after[path], before[path])} == {
        "student/conv/kernel",
        "student/conv/bias",
    }
    sizes = {path: before[path].size for path in PATHS}
    assert (
        optim.count_learning(spec, TREE)
        == sum(sizes.values()) - sizes["student/conv/kernel"] - sizes["student/conv/bias"]
    )


def test_the_rest_of_a_network_of_which_a_part_learns_is_frozen_before_other_groups():
    spec = OptimizerConfig.parse(
        {"name": "sgd", "groups": {"slow": {"pattern": "head|conv", "learning_rate_factor": 0.5}}}, "optimizer"
    )
    frozen = optim.freeze_rest(spec, {"student": "kernel$"})
    assert [*frozen.groups] == ["student.train", "slow"]
    assert optim.freeze_rest(spec, {}) is spec
    groups = {path: optim._group_of(frozen, path) for path in PATHS}
    assert groups["student/conv/bias"] == "student.train"
    assert groups["student/conv/kernel"] == "slow"
    assert groups["fitnet/kernel"] == ""


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"decay_on": "kernels$", "weight_decay": 0.1},
            r"optimizer.decay_on must match .* nearest of 5 are \['fitnet/kernel', 'student/",
        ),
        (
            {"groups": {"a": {"pattern": "studnet/head", "weight_decay": 0.1}}},
            "groups.a.pattern must match .*'student/head/kernel'",
        ),
        (
            {"groups": {name: {"pattern": x, "weight_decay": 0.1} for name, x in (("a", "student"), ("b", "head"))}},
            r"groups.b.pattern must match a parameter of no earlier group, got 'head', whose .* are all of \['a'",
        ),
        (
            {"groups": {"a": {"pattern": "student", "but": "haed", "frozen": True}}},
            "groups.a.but must match .*'student/head/kernel'",
        ),
        (
            {"groups": {"a": {"pattern": "student", "but": "student|fitnet", "frozen": True}}},
            "groups.a.but must leave a parameter to the pattern 'student', got 'student|fitnet'",
        ),
        (
            {"groups": {"a": {"pattern": "conv", "frozen": True}, "b": {"pattern": "head", "frozen": True}}},
            r"must leave a parameter of 'student' to learn, got \['a', 'b'\], which freeze all of them. Narrow",
        ),
    ],
)
def test_patterns_without_effect_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        optim.check_patterns(OptimizerConfig.parse({"name": "sgd"} | spec, "optimizer"), TREE)


def test_clip_by_global_norm():
    assert update({"name": "sgd", "clip": 1.0}, 3.0)[0] == pytest.approx(-0.5 / np.sqrt(2))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "adm"}, "optimizer.name must be an optimizer, got 'adm'. Did you mean 'adam'"),
        ({"name": "sgd", "momentun": 0.9}, "Did you mean 'momentum'"),
        ({"name": "sgd", "clip": "x"}, "optimizer.clip must be a number, got 'x'"),
        ({"name": "sgd", "learning_rate": 0.1}, "must be absent, got 0.1. Set learning_rate"),
        ({"name": "sgd", "decay_on": "("}, "must be a regular expression"),
        ({"name": "sgd", "groups": {"a": {"pattern": "("}}}, "groups.a.pattern must be a regular expression, got"),
        ({"name": "sgd", "groups": {"a": {}}}, "groups.a.pattern must be a regular expression of paths"),
        ({"name": "sgd", "groups": {"a": {"pattern": "b", "rate": 1.0}}}, "groups.a.rate must be a key of this"),
        (
            {"name": "sgd", "groups": {"a": {"pattern": "b", "frozen": True, "weight_decay": 1.0}}},
            "groups.a.frozen must be False beside weight_decay, got True",
        ),
        ({"name": "sgd", "clip": -1.0}, "optimizer.clip must be at least 0 and finite, got -1.0"),
        (
            {"name": "sgd", "weight_decay": float("nan")},
            "optimizer.weight_decay must be at least 0 and finite, got nan",
        ),
        ({"name": "adam", "b1": 2.0}, r"optimizer.b1 must be in \[0, 1\), got 2.0"),
        ({"name": "adan", "b3": 1.0}, r"optimizer.b3 must be in \[0, 1\), got 1.0"),
        ({"name": "sgd", "momentum": -0.1}, r"optimizer.momentum must be in \[0, 1\), got -0.1"),
        ({"name": "sgd", "momentum": True}, r"optimizer.momentum must be a number in \[0, 1\), got True"),
        ({"name": "rmsprop", "decay": float("nan")}, r"optimizer.decay must be in \[0, 1\), got nan"),
        ({"name": "signum", "beta": 1.0}, r"optimizer.beta must be in \[0, 1\), got 1.0"),
        ({"name": "adam", "eps": 0.0}, "optimizer.eps must be greater than 0 and finite, got 0.0"),
        ({"name": "lars", "eps": -1.0}, "optimizer.eps must be at least 0 and finite, got -1.0"),
        ({"name": "adam", "eps_root": -1.0}, "optimizer.eps_root must be at least 0 and finite, got -1.0"),
        ({"name": "adagrad", "initial_accumulator_value": float("inf")}, "must be at least 0 and finite, got inf"),
        ({"name": "sgd", "groups": {"a": {"pattern": "b"}}}, "groups.a must set more than its pattern, got 'b' alone"),
        ({"name": "adam", "decay_on": "k"}, "decay_on must be absent without a weight decay, got 'k', and opt"),
        ({"name": None}, "optimizer.name must be the name of an optimizer, got None"),
    ],
)
def test_bad_optimizers(spec, message):
    with pytest.raises(UserError, match=message):
        optimizer(spec, optax.constant_schedule(0.1))


def test_bounds_of_arguments_admit_the_defaults_of_every_optimizer():
    for name, function in optim.optimizers().items():
        _, defaults = members.arguments_of(function)
        assert not [key for key, x in defaults.items() if members.argument_error(function, key, x, "optimizer")], name
    decayed = {"name": "adam", "decay_on": "k", "groups": {"a": {"pattern": "b", "weight_decay": 0.1}}}
    for spec in ({"name": "optimistic_adam_v2", "beta": 1.5}, {"name": "adamw", "decay_on": "kernel"}, decayed):
        assert OptimizerConfig.parse(spec, "optimizer").name == spec["name"]


def test_a_ramp_of_no_length_is_where_it_leads():
    assert at({"to": 1.0, "over": 0}, 0, 5) == [1.0, 1.0]


@pytest.mark.parametrize("spec", [-0.5, float("nan"), None, "fast", {"start": 0.1, "times": 0.1, "at": 5}])
def test_invalid_schedules_are_refused(spec):
    with pytest.raises(UserError, match="learning_rate(.at)? must be"):
        schedule(spec, 10)


@pytest.mark.parametrize("name", sorted(optim.optimizers()))
def test_every_optimizer_takes_a_step(name):
    tx = optimizer({"name": name, "clip": 1.0}, schedule({"name": "cosine_decay", "init_value": 0.1}, 10))

    def step(grads):
        return tx.update(grads, tx.init(PARAMS), PARAMS)[0]

    assert jax.tree.map(jnp.shape, jax.eval_shape(step, PARAMS)) == jax.tree.map(jnp.shape, PARAMS)


SCHEDULES = {
    "constant": {"value": 0.1},
    "cosine_decay": {"init_value": 0.1},
    "cosine_onecycle": {"transition_steps": 10, "peak_value": 0.1},
    "exponential_decay": {"init_value": 0.1, "decay_rate": 0.5},
    "linear": {"init_value": 0.1, "end_value": 0.0},
    "linear_onecycle": {"transition_steps": 10, "peak_value": 0.1},
    "piecewise_constant": {"init_value": 0.1},
    "piecewise_interpolate": {"interpolate_type": "linear", "init_value": 0.1},
    "polynomial": {"init_value": 0.1, "end_value": 0.0, "power": 2},
    "warmup_constant": {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2},
    "warmup_cosine_decay": {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2},
    "warmup_exponential_decay": {"init_value": 0.0, "peak_value": 0.1, "warmup_steps": 2, "decay_rate": 0.5},
}


def test_every_schedule_has_values():
    assert set(optim.schedules()) - {"join", "sgdr"} == set(SCHEDULES)
    for name, spec in SCHEDULES.items():
        assert all(0 <= value <= 0.1001 for value in at({"name": name} | spec, *range(10), length=10))


def test_there_are_many():
    assert {"sgd", "adam", "adamw", "lion", "lamb", "rmsprop"} <= set(optim.optimizers())
    assert {"cosine_decay", "warmup_cosine_decay", "linear", "exponential_decay"} <= set(optim.schedules())
