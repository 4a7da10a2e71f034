"""Methods of dense prediction, worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.methods.cirkd import CIRKD, batch_relation, memory_relation
from jaxdistill.methods.cwd import CWD, cwd
from jaxdistill.methods.fgd import FGD, Context, attention, attention_difference, focal, place_weights
from jaxdistill.methods.ifvd import IFVD, ifvd
from jaxdistill.methods.pearson_kd import pearson_kd
from jaxdistill.methods.skd import SKD, affinity, nodes, pair_wise, pixel_wise

ONES = jnp.ones(1)


def maps(values):
    """One image of one row: `[places, channels]` to `[1, 1, places, channels]`."""
    return jnp.asarray(values, jnp.float32)[None, None]


def test_cwd_by_hand():
    """At T = 2 the distributions are the square roots, normalised; the second channel agrees."""
    teacher, student = maps(np.log([[0.64, 1], [0.36, 5]])), maps(np.log([[0.36, 2], [0.64, 10]]))
    p, q = np.array([0.8, 0.6]) / 1.4, np.array([0.6, 0.8]) / 1.4
    np.testing.assert_allclose(cwd(student, teacher, 2.0), [4 * np.sum(p * np.log(p / q)) / 2], rtol=1e-5)


def test_cwd_of_logits_and_of_features():
    logits, tap = (maps([[0.0, 1], [2, 0]]), maps([[3.0], [0]])), (maps([[1.0, 0], [0, 0]]), maps([[0.0], [1]]))
    student, teacher = Output(logits[0], {"a": logits[1]}), Output(tap[0], {"a": tap[1]})
    both = CWD(layers="logits,a").apply({}, student, teacher, {})
    np.testing.assert_allclose(both, cwd(logits[0], tap[0], 4.0) + cwd(logits[1], tap[1], 4.0), rtol=1e-6)
    assert CWD().same_classes
    assert CWD(layers="stage1, logits").same_classes
    assert not CWD(layers="stage1,member/logits").same_classes


def test_cwd_of_logits_excludes_void_pixels():
    """By hand: the value of a map with a void third pixel is that of the map without it."""
    teacher, student = maps(np.log([[0.64, 1], [0.36, 5]])), maps(np.log([[0.36, 2], [0.64, 10]]))
    more = [jnp.concatenate([x, jnp.full((1, 1, 1, 2), fill)], 2) for x, fill in ((student, 9.0), (teacher, -3.0))]
    batch = {"valid": jnp.array([[[1.0, 1, 0]]])}
    outputs = [Output(x, {"a": x}) for x in more]
    method, features = CWD(temperature=2.0), CWD(layers="a", temperature=2.0)
    np.testing.assert_allclose(method.apply({}, *outputs, batch), cwd(student, teacher, 2.0), rtol=1e-5)
    np.testing.assert_array_equal(method.apply({}, *outputs, {"valid": ONES}), cwd(*more, 2.0))
    np.testing.assert_array_equal(features.apply({}, *outputs, batch), cwd(*more, 2.0))
    gradient = jax.jit(jax.grad(lambda x: cwd(x, more[1], 2.0, batch["valid"])[0]))(more[0])
    assert (gradient[0, 0, :2] != 0).any()
    np.testing.assert_array_equal(gradient[0, 0, 2], 0)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: cwd(x, more[1], 2.0, jnp.zeros((1, 1, 3)))[0]))(more[0])
    assert value == 0
    np.testing.assert_array_equal(gradient, 0)


def test_skd_averages_over_valid_pixels():
    p, q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    student, teacher, batch = maps([p, q, q]), maps([p, p, p]), {"valid": jnp.array([[[1.0, 1, 0]]])}
    outputs = [Output(x, {"a": jnp.ones((1, 2, 2, 1))}) for x in (student, teacher)]
    method = SKD(layers="a")
    np.testing.assert_allclose(method.apply({}, *outputs, batch), [0.5 * np.log(4 / 3) / 2], rtol=1e-5)
    np.testing.assert_allclose(method.apply({}, *outputs, {}), [2 * 0.5 * np.log(4 / 3) / 3], rtol=1e-5)
    np.testing.assert_array_equal(pixel_wise(student, teacher, jnp.zeros((1, 1, 3))), [0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [IFVD(layers="a"), FGD(layers="a"), CIRKD(layers="a", pixels=2)], ids=lambda x: type(x).__name__
)
def test_void_pixels_are_pixels_without_a_label(method):
    x, y = jax.random.normal(jax.random.key(0), (2, 2, 4, 4, 3))
    label, void = jnp.arange(32).reshape(2, 4, 4) % 3, jnp.arange(32).reshape(2, 4, 4) % 5 == 0
    shared = {"mask": jnp.ones(2), "index": jnp.arange(2)}
    outputs = [Output(jnp.zeros((2, 4, 4, 3)), {"a": tap}) for tap in (x, y)]

    def values(fields):
        keys, batch = {"params": jax.random.key(0), "method": jax.random.key(1)}, shared | fields
        variables = method.init(keys, *outputs, batch)
        return method.apply(variables, *outputs, batch, rngs=keys, mutable=["memory", "batch_stats"]), method.valid(
            batch
        )

    by_valid = values({"label": label, "valid": jnp.where(void, 0.0, 1.0)})
    jax.tree.map(np.testing.assert_array_equal, by_valid, values({"label": jnp.where(void, -1, label)}))
    differs = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), by_valid, values({"label": label}))
    assert any(jax.tree.leaves(differs))


def test_skd_by_hand():
    """Two places that the teacher finds equal and the student at right angles: half of the four pairs differ by 1."""
    teacher, student = maps([[3.0, 0], [5, 0]]), maps([[2.0, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(pair_wise(student, teacher), [0.5])
    np.testing.assert_allclose(affinity(student)[0], np.eye(2))
    p, q = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    np.testing.assert_allclose(pixel_wise(maps([p, q]), maps([p, p])), [0.5 * np.log(4 / 3) / 2], rtol=1e-5)


def test_skd_nodes_are_averages_of_squares():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    assert nodes(x, 2).shape == (1, 2, 2, 1)
    np.testing.assert_allclose(nodes(jnp.arange(16.0).reshape(1, 4, 4, 1), 2)[0, ..., 0], [[2.5, 4.5], [10.5, 12.5]])
    method, side = SKD(layers="a", granularity=4), jnp.ones((1, 4, 4, 2))
    student, teacher = Output(side, {"a": jax.random.normal(jax.random.key(0), side.shape)}), Output(side, {"a": side})
    np.testing.assert_allclose(method.apply({}, student, teacher, {}), 0, atol=1e-6)  # one node, alike with itself


def test_skd_parts_have_their_weights():
    logits, tap = (
        jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3)),
        jax.random.normal(jax.random.key(1), (2, 1, 4, 4, 3)),
    )
    student, teacher = (Output(a, {"a": b}) for a, b in zip(logits, tap, strict=True))
    actual = SKD(layers="a", granularity=1, pixel=2.0, pair=3.0).apply({}, student, teacher, {})
    np.testing.assert_allclose(actual, 2 * pixel_wise(*logits) + 3 * pair_wise(*tap), rtol=1e-5)


def test_ifvd_by_hand():
    """Two pixels of one class: the student's at right angles, each at 45 degrees to their mean; the teacher's agree."""
    student, teacher, label = maps([[1.0, 0], [0, 1]]), maps([[2.0, 0, 0], [1, 0, 0]]), jnp.array([[[1, 1]]])
    expected = (1 - np.sqrt(0.5)) ** 2
    np.testing.assert_allclose(ifvd(student, teacher, label, 3), [expected], rtol=1e-5)
    np.testing.assert_allclose(ifvd(student, teacher, jnp.array([[[0, 1]]]), 3), [0], atol=1e-6)  # each its own mean
    more = [jnp.concatenate([x, 7 + jnp.arange(float(x.shape[-1]))[None, None, None]], 2) for x in (student, teacher)]
    np.testing.assert_allclose(ifvd(*more, jnp.array([[[1, 1, -1]]]), 3), [expected], rtol=1e-5)


VOID = {"label": jnp.array([[[1, 1, 2]]]), "valid": jnp.array([[[1.0, 1, 0]]]), "mask": ONES}
"""A third pixel that is void."""


def test_ifvd_and_fgd_by_hand_beside_a_void_pixel():
    student, teacher = maps([[1.0, 0], [0, 1], [5, -7]]), maps([[2.0, 0], [1, 0], [-3, 4]])
    outputs = [Output(jnp.zeros((1, 1, 3, 3)), {"a": side}) for side in (student, teacher)]
    method = IFVD(layers="a")
    np.testing.assert_allclose(method.apply({}, *outputs, VOID), [(1 - np.sqrt(0.5)) ** 2], rtol=1e-5)
    np.testing.assert_array_equal(method.valid(VOID), [1])
    # Sizes by place, 1, 0.5 and 3.5, and by channel, 2 and 4 / 3; two pixels of the foreground count by half each.
    fgd = FGD(layers="a", temperature=1.0, foreground=2.0, background=9.0, attention=0.0, relation=0.0)
    places, channels = np.exp([1, 0.5, 3.5]), np.exp([2, 4 / 3])
    places, channels = 3 * places / places.sum(), 2 * channels / channels.sum()
    expected = places[0] * channels[0] + places[1] * channels.sum()
    value, _ = fgd.init_with_output(jax.random.key(0), *outputs, VOID)
    np.testing.assert_allclose(value, [expected], rtol=1e-5)


def test_ifvd_counts_images_with_a_label():
    label = jnp.array([[[0, -1]], [[-1, -1]], [[1, 1]]])
    np.testing.assert_array_equal(IFVD().valid({"label": label, "mask": jnp.array([1.0, 1, 0])}), [1, 0, 0])


def test_pearson_is_one_minus_the_correlation():
    x = np.random.default_rng(0).normal(size=(2, 3, 2, 3, 2)).astype(np.float32)
    number = 3 * 2 * 3
    correlations = [np.corrcoef(*x[..., channel].reshape(2, -1))[0, 1] for channel in range(2)]
    expected = (number - 1) / number * (1 - np.mean(correlations))
    np.testing.assert_allclose(jnp.mean(pearson_kd(*jnp.asarray(x), jnp.ones(3))), expected, rtol=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 10), st.floats(-5, 5), st.integers(0, 100))
def test_pearson_is_invariant_to_scale_and_shift(scale, shift, seed):
    x = jax.random.normal(jax.random.key(seed), (2, 3, 3, 2))
    np.testing.assert_allclose(pearson_kd(x, scale * x + shift, jnp.ones(2)), 0, atol=1e-5)
    np.testing.assert_allclose(jnp.mean(pearson_kd(x, shift - scale * x, jnp.ones(2))), 2 * 17 / 18, rtol=1e-4)


def test_fgd_attention_by_hand():
    """Mean sizes 1 and 3 of two places, at T = 2: logits 0.5 and 1.5; of channels 1.5 and 2.5."""
    places, channels = attention(maps([[1.0, -1.0], [-2, 4]]), 2.0)
    share = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(places[0, 0], [2 * (1 - share), 2 * share], rtol=1e-6)
    share = 1 / (1 + np.exp(-0.5))
    np.testing.assert_allclose(channels[0], [2 * (1 - share), 2 * share], rtol=1e-6)
    even, flat = maps([[1.0, 1], [1, 1]]), jnp.ones((1, 1, 2))
    np.testing.assert_allclose(
        attention_difference(maps([[1.0, 1], [3, 3]]), even, 2.0), [2 * (2 / (1 + np.exp(-1)) - 1)], rtol=1e-5
    )
    np.testing.assert_allclose(focal(maps([[1.0, 3], [2, 1]]), even, 3.0 * flat, 2.0), [3 * (4 + 1)])


def test_fgd_gives_classes_equal_weight():
    label = jnp.array([[[0, 0, 1, 1], [1, 1, 2, -1]]])
    np.testing.assert_allclose(place_weights(label, 3, 8.0, 6.0), [[[3, 3, 2, 2], [2, 2, 8, 0]]])


def test_fgd_context_adds_one_vector_to_every_place():
    x = jax.random.normal(jax.random.key(0), (2, 3, 3, 4))
    variables = Context().init(jax.random.key(1), x)
    np.testing.assert_array_equal(Context().apply(variables, x), x)  # it begins as nothing
    learned = jax.tree.map(lambda leaf: leaf + 0.3, variables)
    added = Context().apply(learned, x) - x
    np.testing.assert_allclose(added, jnp.broadcast_to(added[:, :1, :1], x.shape), atol=1e-5)
    assert jnp.all(added != 0)


@pytest.mark.parametrize("part", ["foreground", "background", "attention", "relation"])
def test_fgd_parts_have_their_weights(part):
    x, y = jax.random.normal(jax.random.key(0), (2, 1, 4, 4, 3))
    batch = {"label": jnp.arange(16).reshape(1, 4, 4) % 4 - 1}
    arguments = Output(jnp.zeros((1, 4, 4, 3)), {"a": x}), Output(x, {"a": y}), batch
    method = FGD(layers="a", **dict.fromkeys(("foreground", "background", "attention", "relation"), 0.0) | {part: 2.0})
    actual, _ = method.init_with_output(jax.random.key(0), *arguments)
    weights = place_weights(batch["label"], 3, float(part == "foreground"), float(part == "background"))
    expected = {"attention": attention_difference(x, y, 0.5), "relation": jnp.sum((x - y) ** 2, (1, 2, 3))}
    np.testing.assert_allclose(actual, 2 * expected.get(part, focal(x, y, weights, 0.5)), rtol=1e-5)


def test_cirkd_batch_relation_by_hand():
    """The teacher's two pixels are one and the same, the student's at right angles; a masked image does not count."""
    teacher, student = jnp.array([[[1.0, 0], [1, 0]]]), jnp.array([[[1.0, 0], [0, 1]]])
    share = np.exp(2) / (1 + np.exp(2))
    expected = 0.5 * np.log(0.5 / share) + 0.5 * np.log(0.5 / (1 - share))
    np.testing.assert_allclose(batch_relation(student, teacher, ONES, 0.5), [expected], rtol=1e-5)
    both = [jnp.concatenate([x, y]) for x, y in ((student, teacher), (teacher, student))]
    np.testing.assert_allclose(batch_relation(*both, jnp.array([1.0, 0]), 0.5)[0], expected, rtol=1e-5)
    mixed = batch_relation(*both, jnp.ones(2), 0.5)
    assert not np.allclose(mixed[0], expected)


def test_cirkd_memory_relation_by_hand():
    keys, is_token = jnp.array([[1.0, 0], [0, 1], [-1, 0]]), jnp.array([True, True, False])
    student, teacher = jnp.array([[[0.0, 1]]]), jnp.array([[[1.0, 0]]])
    share = np.exp(1) / (1 + np.exp(1))
    expected = share * np.log(share / (1 - share)) + (1 - share) * np.log((1 - share) / share)
    np.testing.assert_allclose(memory_relation(student, teacher, keys, is_token, 1.0), [[expected]], rtol=1e-5)
    np.testing.assert_array_equal(memory_relation(student, teacher, keys, is_token & False, 1.0), [[0]])


def cirkd(**fields):
    sizes = dict(pixel_memory=6, region_memory=3, pixel_keys=9, region_keys=3, pixels=2)
    method = CIRKD(layers="a", **sizes | fields)
    student, teacher = jax.random.normal(jax.random.key(0), (2, 3, 2, 2, 4))
    label = jnp.array([[[0, 0], [0, -1]], [[1, 1], [0, 1]], [[2, 2], [2, 2]]])
    batch = {"index": jnp.arange(3), "mask": jnp.array([1.0, 1, 0]), "label": label}
    arguments = Output(jnp.zeros((3, 2, 2, 3)), {"a": student}), Output(teacher, {"a": teacher}), batch
    variables = method.init({"params": jax.random.key(1), "method": jax.random.key(2)}, *arguments)

    def step(variables, tap=None):
        result = arguments if tap is None else [x.replace(taps={"a": tap}) for x in arguments[:2]] + [batch]
        rngs = {"method": jax.random.key(3)}
        value, changed = method.apply(variables, *result, rngs=rngs, mutable=["memory", "batch_stats"])
        return value, variables | changed

    return step, variables, teacher, label


@pytest.mark.slow
def test_cirkd_remembers_regions_and_pixels_of_their_class():
    step, variables, teacher, label = cirkd()
    _, after = step(variables)
    memory = after["memory"]
    np.testing.assert_array_equal(memory["a_region_pushed"], [2, 1, 0])
    np.testing.assert_array_equal(memory["a_pixel_pushed"], [3, 2, 0])  # at most two pixels of a class of an image
    unit = teacher / jnp.linalg.norm(teacher, axis=-1, keepdims=True)
    mean = jnp.mean(unit[0][label[0] == 0], 0)
    np.testing.assert_allclose(memory["a_region_queue"][0, 0], mean / jnp.linalg.norm(mean), rtol=1e-5)
    for kind, count in ((0, 3), (1, 2)):
        left = unit[:2][label[:2] == kind]
        for item in memory["a_pixel_queue"][kind, :count]:
            assert jnp.min(jnp.linalg.norm(left - item[None], axis=-1)) < 1e-5


def test_cirkd_compares_only_with_earlier_batches():
    """With the queues empty the batch's part is all there is."""
    for part in ("pixel", "region"):
        step, variables, *_ = cirkd(**{"batch": 0.0, "pixel": 0.0, "region": 0.0, part: 1.0})
        first, variables = step(variables)
        np.testing.assert_array_equal(first, 0)
        second, _ = step(variables)
        assert (second[:2] > 0).all()
        assert second[2] == 0  # no pixel of it counts


@pytest.mark.slow
def test_cirkd_averages_over_labelled_pixels():
    """Where all pixels are alike, images weigh 3 and 4, as many as have labels, and their mean is a pixel's value."""
    step, variables, *_ = cirkd(batch=0.0, pixel=0.0, region=1.0)
    _, variables = step(variables)
    value, _ = step(variables, jnp.ones((3, 2, 2, 4)))
    stored, pushed = (variables["memory"][f"a_region_{name}"] for name in ("queue", "pushed"))
    keys, is_token = stored.reshape(-1, 4), (jnp.arange(3)[None] < pushed[:, None]).reshape(-1)
    one = memory_relation(jnp.zeros((1, 1, 4)), jnp.full((1, 1, 4), 0.5), keys, is_token, 0.1)[0, 0]
    assert one > 0
    # A constant map has no variance: batch normalisation leaves 0 of the student's.
    np.testing.assert_allclose(value[:2], [one * 2 * 3 / 7, one * 2 * 4 / 7], rtol=1e-4)


REFUSED = [CWD(temperature=0.0), SKD(granularity=0), SKD(pixel=-1.0), SKD(pair=-1.0), FGD(temperature=0.0)]
REFUSED += [FGD(relation=-1.0), CIRKD(temperature=0.0), CIRKD(region=-1.0), CIRKD(pixel_memory=0), CIRKD(pixels=0)]


@pytest.mark.parametrize("method", REFUSED)
def test_invalid_fields_are_refused(method):
    with pytest.raises(UserError, match="must be"):
        method.check()
