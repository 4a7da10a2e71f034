"""Optimizers and schedules by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

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
    assert update({"name": "adamw"}) == pytest.approx((0.0, 0.0))  # Optax's own default decays
    first = -0.5 * (3 + 0.9 * 3)  # Nesterov's first step looks ahead
    assert update({"name": "sgd", "momentum": 0.9, "nesterov": True}, 3.0)[0] == pytest.approx(first)


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
        ({"name": "sgd", "clip": -1.0}, "optimizer.clip must be at least 0 and finite, got -1.0"),
        (
            {"name": "sgd", "weight_decay": float("nan")},
            "optimizer.weight_decay must be at least 0 and finite, got nan",
        ),
        ({"name": None}, "optimizer.name must be the name of an optimizer, got None"),
    ],
)
def test_bad_optimizers(spec, message):
    with pytest.raises(UserError, match=message):
        optimizer(spec, optax.constant_schedule(0.1))


def test_a_ramp_of_no_length_is_where_it_leads():
    assert at({"to": 1.0, "over": 0}, 0, 5) == [1.0, 1.0]


@pytest.mark.parametrize("spec", [-0.5, float("nan"), None, "fast", {"start": 0.1, "times": 0.1, "at": 5}])
def test_schedules_that_make_no_sense(spec):
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
