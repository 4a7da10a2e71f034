import contextlib
import dataclasses
import functools
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxdistill.compress.codebook import Codebook
from jaxdistill.compress.fake_quantize import Grid, first_step, fit_grid, from_integers, integer_limits, to_integers
from jaxdistill.compress.quantize import Quantize, integers
from jaxdistill.compress.view import Extra
from jaxdistill.core import Output
from jaxdistill.errors import UserError
from runs import launched, lines, results, stop_at, weights

RANDOM = np.random.default_rng(0)
KERNELS = {
    "conv/kernel": RANDOM.normal(size=(3, 3, 2, 4)).astype(np.float32),
    "dense/kernel": RANDOM.normal(size=(5, 3)).astype(np.float32),
    "query/kernel": RANDOM.normal(size=(5, 2, 2)).astype(np.float32),
    "blocks/up/kernel": (RANDOM.normal(size=(2, 5, 3)) * [[[1]], [[100]]]).astype(np.float32),
}
PARAMS = {
    **KERNELS,
    "head/kernel": RANDOM.normal(size=(3, 2)).astype(np.float32),
    "embed/embedding": RANDOM.normal(size=(7, 3)).astype(np.float32),
    "dense/bias": np.ones(3, np.float32),
}
FORMS = [
    {"bits": 8},
    {"bits": 4, "per": "tensor"},
    {"bits": 3, "symmetric": False, "range": "percentile", "percentile": 80.0},
    {"bits": 8, "range": "learned", "symmetric": False},
]


class Net(nn.Module):
    """Convolution, dense layer and head."""

    remat: bool = False

    @nn.compact
    def __call__(self, x):
        conv = nn.remat(nn.Conv) if self.remat else nn.Conv
        x = nn.relu(conv(4, (3, 3), name="conv")(x))
        x = nn.Dense(3, name="dense")(x.reshape(len(x), -1))
        return Output(nn.Dense(2, name="head")(x))


X = jax.random.normal(jax.random.key(1), (3, 4, 4, 2))
VARIABLES = jax.jit(Net().init)(jax.random.key(0), X)


@dataclasses.dataclass
class Data:
    """Calibration on images."""

    images: list
    module: nn.Module = dataclasses.field(default_factory=Net)

    def batches(self):
        return iter([{"image": x} for x in self.images])

    def predict(self, variables, batch, *interceptors):
        with contextlib.ExitStack() as stack:
            for interceptor in interceptors:
                stack.enter_context(nn.intercept_methods(interceptor))
            return self.module.apply(variables, batch["image"])


def flat_params(variables=VARIABLES):
    return flatten_dict(variables["params"], sep="/")


@functools.partial(jax.jit, static_argnums=0)
def predict(view, extra, x=X):
    params = unflatten_dict(view.view(flat_params(), extra), sep="/")
    return Data([]).predict({"params": params}, {"image": x}, view.intercept(extra)).logits


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_the_integers_are_bit_equal_to_the_finished_weights(form):
    view = Quantize(**form)
    extra = jax.jit(view.init)(PARAMS)
    finished = jax.jit(view.finish)(PARAMS, extra)
    found_at_once = jax.jit(
        lambda: {name: integers(name, jnp.asarray(KERNELS[name]), view, extra) for name in KERNELS}
    )()
    for name, found in found_at_once.items():
        assert (found.q.dtype, found.zero.dtype, found.q.shape) == (jnp.int8, jnp.int8, PARAMS[name].shape)
        limits = integer_limits(view.bits, view.symmetric)
        assert limits.lowest <= found.q.min()
        assert found.q.max() <= limits.highest
        np.testing.assert_array_equal((found.q.astype(np.float32) - found.zero) * found.scale, finished[name])
        assert len(np.unique(found.q)) > 3
    for name in set(PARAMS) - set(KERNELS):
        np.testing.assert_array_equal(finished[name], PARAMS[name])


def test_they_are_also_bit_equal_without_compilation_of_the_whole():
    view, w = Quantize(bits=4, symmetric=False), jnp.asarray(PARAMS["dense/kernel"])
    finished = jax.jit(view.finish)({"dense/kernel": w}, Extra())["dense/kernel"]
    np.testing.assert_array_equal(integers("dense/kernel", w, view, Extra()).dequantize(), finished)


def test_a_scale_is_that_of_an_output_channel_or_of_a_layers_tensor():
    view = Quantize()
    grids = jax.jit(lambda: {name: view.grid(name, PARAMS[name], Extra()).scale for name in KERNELS})()
    for name, axes in {"conv/kernel": (0, 1, 2), "dense/kernel": 0, "query/kernel": 0, "blocks/up/kernel": 1}.items():
        largest = np.max(np.abs(PARAMS[name]), axes, keepdims=True)
        np.testing.assert_allclose(grids[name], largest / 127, rtol=1e-6)
    whole = Quantize(per="tensor")
    shapes = jax.eval_shape(lambda: {name: whole.grid(name, PARAMS[name], Extra()).scale for name in KERNELS})
    assert (shapes["conv/kernel"].shape, shapes["blocks/up/kernel"].shape) == ((1, 1, 1, 1), (2, 1, 1))


def test_a_rule_may_name_the_head_or_an_embedding():
    assert Quantize(match="head|embed").selected(PARAMS) == ["head/kernel", "embed/embedding"]
    viewed = jax.jit(Quantize(match="embedding", bits=2).view)(PARAMS, Extra())["embed/embedding"]
    assert all(len(np.unique(row)) <= 3 for row in viewed)


def test_weights_pass_their_gradient_and_learned_steps_have_one():
    view = Quantize(range="learned", bits=4, match="dense")
    extra = view.init(PARAMS)
    w = PARAMS["dense/kernel"]
    step = extra.learned["dense/kernel_step"]
    np.testing.assert_allclose(step, first_step(jnp.mean(jnp.abs(w), 0, keepdims=True), jnp.array(7.0)))

    def total(params, learned):
        return jnp.sum(view.view(params, extra._replace(learned=learned))["dense/kernel"])

    by_params, by_learned = jax.jit(jax.grad(total, (0, 1)))({"dense/kernel": w}, extra.learned)
    v = w / step
    inside = np.abs(v) < 7
    np.testing.assert_array_equal(by_params["dense/kernel"], inside)
    slope = np.where(inside, np.round(v) - v, np.clip(v, -7, 7)).sum(0, keepdims=True) / np.sqrt(5 * 7)
    np.testing.assert_allclose(by_learned["dense/kernel_step"], slope, rtol=1e-4)


def test_a_view_begins_after_its_start():
    view = Quantize(bits=2, start=3, activations=2)
    params, extra = flat_params(), view.init(flat_params())
    exact = jax.jit(Net().apply)(VARIABLES, X).logits
    for step in (1, 2):
        extra = view.update(extra, params, jnp.int32(step))
        np.testing.assert_allclose(predict(view, extra), exact, rtol=1e-6)
    assert np.array_equal(jax.jit(view.finish)(params, extra)["conv/kernel"], params["conv/kernel"])
    assert not view.has_started(extra)
    extra = view.update(extra, params, jnp.int32(3))
    assert len(np.unique(jax.jit(view.finish)(params, extra)["conv/kernel"])) < 20
    rounded = predict(Quantize(bits=2, activations=2), Extra())
    np.testing.assert_allclose(predict(view, extra), rounded, rtol=1e-6)
    assert float(jnp.max(jnp.abs(rounded - exact))) > 0.01


def test_dynamic_inputs_are_rounded_by_example():
    view = Quantize(activations=4, match="^dense")
    extra = view.init(flat_params())
    hidden = nn.relu(nn.Conv(4, (3, 3)).apply({"params": VARIABLES["params"]["conv"]}, X)).reshape(3, -1)
    grid = fit_grid(hidden, (1,), 4)
    rounded = from_integers(to_integers(hidden, grid, integer_limits(4)), grid)
    viewed = jax.jit(view.view)(flat_params(), extra)
    dense = rounded @ viewed["dense/kernel"] + viewed["dense/bias"][None]
    expected = dense @ viewed["head/kernel"] + viewed["head/bias"][None]
    np.testing.assert_allclose(predict(view, extra), expected, rtol=1e-5, atol=1e-6)
    convolved = Quantize(activations=4)
    louder = predict(convolved, extra, X.at[1:].mul(100.0))
    np.testing.assert_allclose(louder[0], predict(convolved, extra)[0], rtol=1e-5, atol=1e-6)
    assert (
        predict(convolved, extra, jnp.zeros_like(X)).tolist()
        == Net().apply(VARIABLES, jnp.zeros_like(X)).logits.tolist()
    )


def fit(view, images, module=None):
    variables = flatten_dict(VARIABLES, sep="/")
    stored, extra = view.fit(variables, Data(images, module or Net()))
    assert stored.keys() == variables.keys()
    shapes = jax.eval_shape(view.init, flat_params())
    assert jax.tree.map(lambda x: (x.shape, x.dtype), extra) == jax.tree.map(lambda x: (x.shape, x.dtype), shapes)
    return extra


@pytest.mark.parametrize("remat", [False, True])
def test_static_ranges_are_those_of_calibration_data(remat):
    images = [X, 3 * X, X - 1]
    extra = fit(Quantize(activations=8, activation_range="minmax"), images, Net(remat))
    largest = max(float(jnp.abs(x).max()) for x in images)
    np.testing.assert_allclose(extra.state["conv/input_scale"], largest / 127, rtol=1e-6)
    assert set(extra.state) == {f"{layer}/input_{key}" for layer in ("conv", "dense") for key in ("scale", "zero")}


def test_a_static_range_after_a_relu_may_be_unsigned():
    view = Quantize(activations=4, activation_range="percentile", percentile=90.0, activation_symmetric=False)
    extra = fit(view, [X, 2 * X])
    assert extra.state["dense/input_zero"] == -8
    hidden = [nn.relu(nn.Conv(4, (3, 3)).apply({"params": VARIABLES["params"]["conv"]}, x)) for x in (X, 2 * X)]
    high = np.mean([np.percentile(x, 90, method="nearest") for x in hidden])
    np.testing.assert_allclose(extra.state["dense/input_scale"], high / 15, rtol=1e-5)
    assert float(jnp.max(jnp.abs(predict(view, extra)))) > 0


def test_a_learned_step_of_inputs_starts_from_their_mean_magnitude_and_has_a_gradient():
    view = Quantize(activations=4, activation_range="learned")
    extra = fit(view, [X])
    np.testing.assert_allclose(extra.learned["conv/input_step"], 2 * jnp.mean(jnp.abs(X)) / np.sqrt(7), rtol=1e-5)
    slope = jax.jit(jax.grad(lambda learned: jnp.sum(predict(view, extra._replace(learned=learned)))))(extra.learned)
    assert all(float(jnp.abs(x)) > 0 for x in slope.values())


def test_a_network_whose_inputs_are_not_calibrated_outputs_nan():
    view = Quantize(activations=8, activation_range="learned")
    assert bool(jnp.all(jnp.isnan(predict(view, view.init(flat_params())))))


def test_calibration_without_a_batch_is_refused():
    with pytest.raises(UserError, match="batches must be at least 1 for ranges of inputs"):
        fit(Quantize(activations=8, activation_range="minmax"), [])


REFUSALS = {
    "bits must be in": {"bits": 1},
    "activations must be in": {"activations": 9},
    "percentile must be above 50": {"percentile": 50.0},
    "match must match a parameter": {"match": "nowhere"},
    "activation_range must be 'dynamic' for scanned": {"activations": 8, "activation_range": "minmax"},
}


@pytest.mark.parametrize("message", REFUSALS)
def test_a_value_that_it_cannot_have_is_refused(message):
    with pytest.raises(UserError, match=message):
        Quantize(**REFUSALS[message]).check(PARAMS)


def test_an_odd_width_and_zeros_are_finite():
    view = Quantize(bits=4, symmetric=False)
    viewed = jax.jit(view.view)({"dense/kernel": jnp.zeros((3, 5)), "up/kernel": jnp.ones((3, 1))}, Extra())
    np.testing.assert_array_equal(viewed["dense/kernel"], 0)
    np.testing.assert_allclose(viewed["up/kernel"], 1, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
def test_weights_are_those_of_qwix_whose_scales_are_half_a_step_longer(bits):
    qarray = pytest.importorskip("qwix._src.core.qarray")
    w = jnp.asarray(PARAMS["dense/kernel"])
    how = qarray.HowToQuantize(qtype=f"int{bits}", channelwise_axes=(1,))
    theirs = qarray.quantize(w, how)
    ours = Quantize(bits=bits).grid("dense/kernel", w, Extra())
    highest = integer_limits(bits).highest
    np.testing.assert_allclose(theirs.scale, ours.scale * highest / (highest + 0.5), rtol=1e-6)
    grid = Grid(jnp.asarray(theirs.scale, jnp.float32), jnp.zeros_like(ours.zero))
    expected = qarray.dequantize(theirs)
    np.testing.assert_allclose(
        from_integers(to_integers(w, grid, integer_limits(bits, False)), grid), expected, rtol=1e-6
    )
    error = [
        float(jnp.abs(x - w).max())
        for x in (Quantize(bits=bits).view({"dense/kernel": w}, Extra())["dense/kernel"], expected)
    ]
    assert max(error) <= 0.5 * float(ours.scale.max()) * 1.001


CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "quantized.py")


@pytest.mark.slow
def test_students_are_quantized_distilled_and_resumed_to_the_same_bits(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    flags = ("--config.checkpoint.every=4",)
    assert launched(whole, *flags, config=CONFIG) == 0
    accuracy = {row["network"]: row["accuracy"] for row in results(whole)}
    assert min(accuracy.values()) > 0.8
    trained, fitted = weights(whole, "distil", 12), weights(whole, "fit", 1)
    learned = [name for name in fitted if name.startswith("params.rounded.compress")]
    assert len(learned) == 2  # of weights and inputs of the hidden layer
    assert all(np.mean(trained[name] != fitted[name]) > 0.5 for name in learned)  # some hidden units are inactive
    assert trained["variables.rounded.compress.round.started"] == 1
    kernel = weights(whole, "teacher", 40)["params.teacher.dense1.kernel"]
    first = Codebook(size=4, iterations=2).init({"kernel": kernel}).state["kernel_index"]
    index = trained["variables.coded.compress.code.dense1.kernel_index"]
    assert 0 < np.mean(index != first) < 0.5
    assert launched(broken, *flags, config=CONFIG, stop=stop_at(52)) != 0
    assert [lines(broken)[-1][key] for key in ("stage", "step")] == ["distil", 4]
    assert launched(broken, *flags, config=CONFIG) == 0
    resumed = weights(broken, "distil", 12)
    assert [name for name, x in trained.items() if not np.array_equal(x, resumed[name])] == []


def test_ranges_of_inputs_need_a_stage_with_data(tmp_path, capsys):
    assert launched(tmp_path, "--config.networks.rounded.weights=stage:teacher", config=CONFIG) == 2
    error = capsys.readouterr().err
    assert "networks.rounded.weights must be those of a stage of kind 'compress'" in error
    assert "since compress.round needs data" in error
    assert not (tmp_path / "teacher").exists()
