"""Methods with memories: contents of banks and queues, and values that depend on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.losses import contrast, distance
from jaxdistill.methods import crd, seed

SMALL = crd.CRD(width=4, negatives=6, examples=10)
SHORT = seed.SEED(queue=5)
SIDES = ("student", "teacher")
INDEX, MASK = jnp.array([7, 0, 3, 9]), jnp.array([1.0, 1, 1, 0])


def batch(index=INDEX, mask=MASK):
    return {"index": index, "mask": mask}


def result(shift=0):
    """Outputs of a student and a teacher for four inputs."""
    features = [jax.random.normal(jax.random.key(shift + side), (4, width)) for side, width in ((0, 5), (1, 7))]
    return [Output(x, {"pooled": x}) for x in features]


def started(method, data=None):
    keys = {"params": jax.random.key(0), "method": jax.random.key(1)}
    return method.init(keys, *result(), data or batch())


def stepped(method, variables, data=None, shift=0, key=5):
    """The values of a batch, and what is remembered after it."""
    streams = {"method": jax.random.key(key)}
    values, changed = method.apply(variables, *result(shift), data or batch(), rngs=streams, mutable=["memory"])
    return values, variables | changed


def embedded(variables):
    """What `CRD` makes of the two networks' features."""
    for side, output in zip(SIDES, result(), strict=True):
        dense = variables["params"][f"pooled_{side}"]
        yield distance.normalize(output.tap("pooled") @ dense["kernel"] + dense["bias"][None])


def test_crd_by_hand():
    """One negative of two examples, T = 1, Z = 1: P = e and 1, each against 1/2."""
    features, bank = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
    actual = crd.scores(features, bank, jnp.array([[0, 1]]), 1.0)
    expected = -np.log(np.e / (np.e + 0.5)) - np.log(0.5 / (1 + 0.5))
    np.testing.assert_allclose(crd.one_side(actual, 0.0, 2), [expected], rtol=1e-6)
    np.testing.assert_allclose(crd.scores(features, bank, jnp.array([[0, 1]]), 0.5), [[2, 0]])
    log_z = crd.log_normalizer(jnp.concatenate([actual, 99 * actual]), jnp.array([1.0, 0]), 2)
    np.testing.assert_allclose(jnp.exp(log_z), 2 * (np.e + 1) / 2, rtol=1e-6)


def test_crd_compares_with_the_other_bank_before_its_update(monkeypatch):
    drawn = jnp.arange(24).reshape(4, 6) % 10
    monkeypatch.setattr(contrast, "draw_others", lambda keys, index, count, examples: drawn)
    variables = started(SMALL)
    columns, expected = jnp.concatenate([INDEX[:, None], drawn], 1), 0
    for features, right in zip(embedded(variables), SIDES[::-1], strict=True):
        actual = crd.scores(features, variables["memory"][f"pooled_{right}_bank"], columns, 0.07)
        expected += crd.one_side(actual, crd.log_normalizer(actual, MASK, 10), 10)
    np.testing.assert_allclose(stepped(SMALL, variables)[0][:3], expected[:3], rtol=1e-4)


def test_crd_stores_only_valid_examples():
    before = started(SMALL)
    _, after = stepped(SMALL, before)
    for side, features in zip(SIDES, embedded(before), strict=True):
        old, is_token = before["memory"][f"pooled_{side}_bank"], INDEX[:3]
        expected = old.at[is_token].set(distance.normalize(0.5 * old[is_token] + 0.5 * features[:3]))
        np.testing.assert_allclose(after["memory"][f"pooled_{side}_bank"], expected, rtol=1e-5)


def test_crd_keeps_the_normaliser_of_the_first_batch():
    start = started(SMALL)
    _, empty = stepped(SMALL, start, batch(mask=jnp.zeros(4)))
    _, first = stepped(SMALL, empty)
    _, second = stepped(SMALL, first, shift=3)
    log_z = [x["memory"]["pooled_log_normalizer"] for x in (start, empty, first, second)]
    assert not np.isfinite(log_z[0]).any()
    assert not np.isfinite(log_z[1]).any(), "an empty batch sets nothing"
    assert np.isfinite(log_z[2]).all()
    np.testing.assert_array_equal(log_z[2], log_z[3])


def test_crd_is_nan_for_an_index_beyond_the_bank():
    variables = started(SMALL)
    values, after = stepped(SMALL, variables, batch(index=INDEX.at[1].set(10)))
    assert jnp.isnan(values).all()
    values, after = stepped(SMALL, variables, batch(index=INDEX.at[3].set(10)))  # which does not count
    assert np.isfinite(values).all()
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(after["memory"]))


def test_crd_draws_new_negatives_per_step_and_example():
    variables = stepped(SMALL, started(SMALL))[1]
    values = [stepped(SMALL, variables, key=key)[0] for key in (5, 5, 6)]
    np.testing.assert_array_equal(values[0], values[1])
    assert (abs(values[0] - values[2])[:3] > 1e-3).all()


@pytest.mark.parametrize("method", [SMALL, SHORT], ids=["crd", "seed"])
def test_memory_is_unchanged_if_immutable(method):
    variables = started(method)
    fixed = method.apply(variables, *result(), batch(), rngs={"method": jax.random.key(5)})
    np.testing.assert_allclose(fixed, stepped(method, variables)[0], rtol=1e-6)


def test_seed_by_hand():
    """Similarities 1, 1, 0 of the teacher (itself, then two remembered) and 0, 0, 1 of the student."""
    one, right = jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 1.0]])
    stored = jnp.concatenate([one, right])
    p, q = np.exp([2, 2, 0]) / np.exp([2, 2, 0]).sum(), np.exp([0, 0, 4]) / np.exp([0, 0, 4]).sum()
    np.testing.assert_allclose(seed.seed(right, one, stored, 0.25, 0.5), [-np.sum(p * np.log(q))], rtol=1e-6)


def test_seed_stores_the_teacher_of_valid_examples():
    before = started(SHORT)
    first, after = stepped(SHORT, before)
    teacher = distance.normalize(result()[1].tap("pooled"))
    stored = [x["memory"]["pooled_queue"][0] for x in (before, after)]
    np.testing.assert_allclose(stored[1][:3], teacher[:3], rtol=1e-5)
    np.testing.assert_array_equal(stored[1][3:], stored[0][3:])
    np.testing.assert_array_equal(after["memory"]["pooled_pushed"], [3])
    np.testing.assert_allclose(jnp.linalg.norm(stored[0], axis=1), np.ones(5), rtol=1e-5)
    second, _ = stepped(SHORT, after)
    assert (abs(second - first)[:3] > 1e-3).all()


@pytest.mark.parametrize(
    "method",
    [
        crd.CRD(width=0),
        crd.CRD(negatives=0),
        crd.CRD(examples=1),
        crd.CRD(momentum=1.0),
        crd.CRD(temperature=0.0),
        seed.SEED(queue=0),
        seed.SEED(student_temperature=0.0),
        seed.SEED(teacher_temperature=-1.0),
    ],
    ids=repr,
)
def test_invalid_fields_are_refused(method):
    type(method)().check()
    with pytest.raises(UserError):
        method.check()
