"""Methods of features through learned adapters, worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.conformance import toy_outputs
from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.methods.mgd import MGD, Generation, mgd
from jaxdistill.methods.ofd import OFD, SCALE, margin_of, ofd
from jaxdistill.methods.reviewkd import ReviewKD, hcl
from jaxdistill.methods.semckd import SemCKD, semckd
from jaxdistill.methods.simkd import SimKD
from jaxdistill.methods.srrl import SRRL, srrl
from jaxdistill.modules.heads import Projector

BATCH = toy_outputs.batch("images")
KEYS = {"params": jax.random.key(0), "method": jax.random.key(1)}


def result(seed, wide=False):
    return toy_outputs.output("images", seed, wide=wide)


def taps(**maps):
    return Output(jnp.zeros((len(next(iter(maps.values()))), 2)), maps)


def test_ofd_by_hand():
    """Below its margin nothing pulls; above it, and wherever the teacher fires, the difference counts."""
    student = jnp.array([[-2.0, 0.0, 3.0, -0.5]]).reshape(1, 4, 1)
    teacher = jnp.array([[-3.0, -3.0, 1.0, 0.5]]).reshape(1, 4, 1)
    np.testing.assert_allclose(ofd(student, teacher, jnp.array([-1.0])), [0 + 1 + 4 + 1])


def test_margin_by_hand_and_by_sampling():
    actual = margin_of(jnp.array([0.0, 4.0, -2.0, 2.0]), jnp.array([1.0, 1.0, 0.0, 0.0]))
    np.testing.assert_allclose(actual, [-np.sqrt(2 / np.pi), -3.0, -2.0, 0.0], rtol=1e-6)
    drawn = np.random.default_rng(0).normal(0.7, 1.3, 1_000_000)
    np.testing.assert_allclose(margin_of(jnp.array([0.7]), jnp.array([1.3])), [drawn[drawn < 0].mean()], rtol=5e-3)


def test_ofd_layer_weights_double_towards_the_last_layer():
    method, teacher = OFD(), result(1)
    variables = method.init(KEYS, result(0), teacher, BATCH)
    silent = variables | {"params": jax.tree.map(jnp.zeros_like, variables["params"])}
    value, _ = method.apply(silent, result(0), teacher, BATCH, mutable=["memory", "batch_stats"])
    expected = 0
    for weight, name in zip([0.25, 0.5, 1], method.layers.split(","), strict=True):
        right = teacher.tap(name)
        margin = margin_of(jnp.mean(right, (0, 1, 2)), jnp.std(right, (0, 1, 2)))
        expected += SCALE * weight * ofd(jnp.zeros_like(right), right, margin)
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_ofd_remembers_the_teachers_statistics():
    method, mask = OFD(layers="stage1/preact"), BATCH | {"mask": jnp.array([1.0, 1, 1, 1, 0, 0])}
    variables = method.init(KEYS, result(0), result(1), BATCH)
    assert variables["memory"]["batches0"] == 0
    for seed, data in ((1, BATCH), (2, mask), (3, BATCH | {"mask": jnp.zeros(6)})):
        _, changed = method.apply(variables, result(0), result(seed), data, mutable=["memory", "batch_stats"])
        variables = variables | changed
    first, second = result(1).tap("stage1/preact"), result(2).tap("stage1/preact")[:4]
    for name, statistic in (("mean0", jnp.mean), ("variance0", jnp.var)):
        expected = (statistic(first, (0, 1, 2)) + statistic(second, (0, 1, 2))) / 2
        np.testing.assert_allclose(variables["memory"][name], expected, rtol=1e-5, atol=1e-6)
    assert variables["memory"]["batches0"] == 2


def test_hcl_by_hand():
    """Mean 1 of the squares of a 2 x 2 map, 1/4 of its average, weighed 1 and 1/2."""
    difference = jnp.array([[2.0, 0.0], [0.0, 0.0]]).reshape(1, 2, 2, 1)
    np.testing.assert_allclose(hcl(difference, jnp.zeros_like(difference)), [(1 + 0.25 / 2) / 1.5])


def test_reviewkd_fuses_deep_stages_into_shallow_ones():
    method = ReviewKD(layers="stage1,stage3", width=3)
    variables = jax.jit(method.init)(KEYS, result(0), result(1), BATCH)
    assert variables["params"]["fusion0"]["conv1"]["kernel"].shape == (1, 1, 4, 3)
    assert "attention" in variables["params"]["fusion0"]
    assert "attention" not in variables["params"]["fusion1"]

    def silence(path, leaf):
        silent = "fusion1/conv2" in core.path_name(path) or "attention" in core.path_name(path)
        return jnp.zeros_like(leaf) if silent else leaf

    def shallow(deep):
        """The deep stage's own comparison is with a constant, and the mixture is half and half."""
        left, silent = (
            taps(stage1=result(0).tap("stage1"), stage3=deep),
            jax.tree_util.tree_map_with_path(silence, variables),
        )
        return jnp.sum(method.apply(silent, left, result(1), BATCH, mutable=["batch_stats"])[0])

    assert jnp.any(jax.jit(jax.grad(shallow))(result(0).tap("stage3")) != 0)


def test_semckd_by_hand():
    distances = jnp.array([[[1.0, 3.0], [2.0, 4.0]]])
    key = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    np.testing.assert_allclose(semckd(distances, jnp.zeros((1, 2, 2)), key), [2 + 3])
    np.testing.assert_allclose(semckd(distances, 100 * key, key), [1 + 4], rtol=1e-6)
    np.testing.assert_allclose(semckd(distances, 100 * key[:, :1].repeat(2, 1), key), [1 + 2], rtol=1e-6)


def test_semckd_compares_all_layers_of_both_sides():
    made = SemCKD(layers="stage2=stage1,stage2=stage3", width=2).init(KEYS, result(0), result(1), BATCH)["params"]
    names = {name.partition("_conv")[0] for name in made if "conv" in name}
    assert names == {"regressor0_0", "regressor0_1"}
    assert made["regressor0_1_conv0"]["kernel"].shape == (1, 1, 6, 16)


def test_simkd_is_the_mean_squared_difference():
    left, right = jnp.ones((2, 4, 4, 3)), jnp.zeros((2, 2, 2, 3))
    value, variables = SimKD(layers="x").init_with_output(KEYS, taps(x=left), taps(x=3 * right - 1), {})
    np.testing.assert_allclose(value, [4, 4])
    assert not variables
    assert SimKD(layers="x").init(KEYS, taps(x=left), taps(x=jnp.zeros((2, 4, 4, 5))), {})["params"]


def test_projector_keeps_the_size_and_has_a_bottleneck():
    for x in (jnp.ones((2, 3, 3, 4)), jnp.ones((2, 4))):
        projected, variables = Projector(6).init_with_output(jax.random.key(0), x, train=False)
        assert projected.shape == (*x.shape[:-1], 6)
        assert (projected >= 0).all()
        shapes = [variables["params"][f"conv{index}"]["kernel"].shape for index in range(3)]
        assert shapes == [(1, 1, 4, 3), (3, 3, 3, 3), (1, 1, 3, 6)]
    _, changed = Projector(6).apply(variables, jnp.ones((2, 4)), train=True, mutable=["batch_stats"])
    assert (changed["batch_stats"]["norm2"]["var"] != variables["batch_stats"]["norm2"]["var"]).all()


def test_srrl_by_hand():
    arguments = jnp.array([[1.0, 3.0]]), jnp.array([[0.0, 0.0]]), jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 0.0]])
    np.testing.assert_allclose(srrl(*arguments, alpha=3.0, beta=10.0), [3 * 5 + 10 * 2])
    student, teacher = Output(arguments[2], {"f": arguments[0]}), Output(arguments[3], {"f": arguments[1]})
    np.testing.assert_allclose(SRRL(layers="f", alpha=0.0).apply({}, student, teacher, {}), [2])


def test_srrl_refuses_several_pairs():
    with pytest.raises(UserError, match="must name one pair, .*got 2"):
        SRRL(layers="pooled,stage3").init(KEYS, result(0), result(1), BATCH)


def test_mgd_without_a_mask_generates_from_the_full_map():
    method, student, teacher = (
        MGD(layers="x", ratio=0.0, alpha=0.5),
        *jax.random.normal(jax.random.key(0), (2, 6, 3, 3, 4)),
    )
    variables = method.init(KEYS, taps(x=student), taps(x=teacher), BATCH)
    actual = method.apply(variables, taps(x=student), taps(x=teacher), BATCH, rngs={"method": jax.random.key(2)})
    params = {"params": variables["params"]["x"]}
    generated = Generation(4).apply(params, student, jnp.ones((6, 1, 1, 4)))
    np.testing.assert_allclose(actual, mgd(generated, teacher, 0.5), rtol=1e-6)
    np.testing.assert_allclose(actual, 0.5 * jnp.sum((generated - teacher) ** 2, (1, 2, 3)), rtol=1e-6)


@pytest.mark.parametrize(("masks", "axes"), [("channel", (1, 2)), ("pixel", (3,))])
def test_mgd_drops_channels_or_pixels(masks, axes):
    """What is dropped has no gradient; it is dropped at all places, or in all channels, and anew for each example."""
    method, student, teacher = MGD(layers="x", masks=masks, ratio=0.5), *jnp.ones((2, 6, 4, 4, 8))
    variables = method.init(KEYS, taps(x=student), taps(x=teacher), BATCH)

    def total(x):
        return jnp.sum(method.apply(variables, taps(x=x), taps(x=teacher), BATCH, rngs={"method": jax.random.key(2)}))

    stored = jax.jit(jax.grad(total))(student) != 0
    np.testing.assert_array_equal(jnp.all(stored, axes), jnp.any(stored, axes))
    share = jnp.mean(stored, (1, 2, 3))
    assert 0.35 < jnp.mean(share) < 0.65
    assert not (stored[0] == stored[1]).all()


REFUSED = [OFD(momentum=1.0), OFD(layers="mean:stage*"), ReviewKD(width=0), ReviewKD(layers="learned:stage*")]
REFUSED += [SemCKD(width=0), SRRL(alpha=-1.0), SRRL(beta=-1.0), MGD(ratio=1.0), MGD(alpha=-1.0), MGD(masks="chanel")]


@pytest.mark.parametrize("method", REFUSED)
def test_invalid_fields_are_refused(method):
    with pytest.raises(UserError, match="must|Did you mean"):
        method.check()


def test_mgd_refuses_vectors():
    with pytest.raises(UserError, match="layers must be maps or tokens"):
        MGD(layers="pooled").init(KEYS, result(0), result(1), BATCH)
