"""Relations of examples: worked by hand, and by the laws that they keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdistill.losses import relation
from jaxdistill.methods import pkt, rkd, sp

SEEDS = st.integers(0, 10_000)
LINE = jnp.array([[0.0], [1.0], [3.0]])
CORNER = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


def drawn(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def rotation(seed, width):
    return jnp.linalg.qr(drawn(seed, width, width))[0]


def two(seed):
    return drawn(seed, 5, 4), drawn(seed + 1, 5, 6), jnp.array([1.0, 1, 0, 1, 1])


def loss(values, mask):
    return jnp.sum(jnp.where(mask > 0, values, 0)) / jnp.sum(mask)


def test_share_is_a_part_of_the_mean_over_tuples_that_count():
    entries, mask = jnp.arange(27.0).reshape(3, 3, 3), jnp.array([1.0, 0, 1])
    kept = [0, 2]
    for x in (entries, entries[0]):
        expected = np.mean(np.asarray(x)[np.ix_(*[kept] * x.ndim)])
        np.testing.assert_allclose(loss(relation.row_means(x, mask), mask), expected, rtol=1e-6)
    np.testing.assert_array_equal(relation.row_means(entries[0], jnp.zeros(3)), [0, 0, 0])


def test_distances_by_hand():
    """Of 1, 3 and 2, whose mean is 2; without the last row, of 1."""
    expected = [[0, 0.5, 1.5], [0.5, 0, 1], [1.5, 1, 0]]
    np.testing.assert_allclose(relation.distances(LINE, jnp.ones(3)), expected, rtol=1e-6)
    squared = np.array([[0, 1, 9], [1, 0, 4], [9, 4, 0]]) * 3 / 14
    np.testing.assert_allclose(relation.distances(LINE, jnp.ones(3), squared=True), squared, rtol=1e-6)
    np.testing.assert_allclose(relation.distances(LINE, jnp.array([1.0, 1, 0]))[0, 1], 1, rtol=1e-6)
    np.testing.assert_array_equal(relation.distances(0 * LINE, jnp.ones(3)), np.zeros((3, 3)))


EQUAL = jnp.array([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])


def test_equal_examples_are_a_pair_too():
    """Of 0, 5 and 5, whose mean is 10/3."""
    expected = [[0, 0, 1.5], [0, 0, 1.5], [1.5, 1.5, 0]]
    np.testing.assert_allclose(relation.distances(EQUAL, jnp.ones(3)), expected, rtol=1e-6)


def test_rkd_does_not_jump_where_two_examples_part():
    teacher = jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])

    def value(student):
        return loss(rkd.distance(student, teacher, jnp.ones(3)), jnp.ones(3))

    at, gradient = jax.jit(jax.value_and_grad(value))(EQUAL)
    np.testing.assert_allclose(value(EQUAL.at[0, 0].add(1e-6)), at, rtol=1e-4)
    assert np.isfinite(gradient).all()


def test_angles_by_hand():
    half = 0.5**0.5
    at_corner, at_right = [[0, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, half], [0, 0, 0], [half, 0, 1]]
    found = relation.angles(CORNER)
    np.testing.assert_allclose(found[0], at_corner, atol=1e-6)
    np.testing.assert_allclose(found[1], at_right, atol=1e-6)
    np.testing.assert_allclose(relation.angles(LINE)[1], [[1, 0, -1], [0, 0, 0], [-1, 0, 1]], atol=1e-6)


def test_near_rows_keep_their_distance_far_from_the_origin():
    """By a Gram matrix it would be lost in the rounding of the norms."""
    x = jnp.array([[1000.0, 0], [1000.0, 0.0625], [1000.0, 0.1875]])
    np.testing.assert_allclose(relation.distances(x, jnp.ones(3))[0], [0, 0.5, 1.5], rtol=1e-6)


PKT = jax.jit(functools.partial(pkt.pkt, eps=1e-7))


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.floats(0.01, 100))
def test_rkd_is_blind_to_rotation_shift_and_scale(seed, scale):
    student, teacher, mask = two(seed)
    moved = scale * (student @ rotation(seed, 4) + drawn(seed + 2, 1, 4))
    for term in (jax.jit(rkd.distance), jax.jit(rkd.angle)):
        value = loss(term(student, teacher, mask), mask)
        np.testing.assert_allclose(loss(term(moved, teacher, mask), mask), value, rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_rkd_of_a_rotated_teacher_is_at_rest(seed):
    teacher, mask = drawn(seed, 5, 4), jnp.ones(5)
    student = 3 * teacher @ rotation(seed + 1, 4)
    for term in (jax.jit(rkd.distance), jax.jit(rkd.angle)):
        np.testing.assert_allclose(term(student, teacher, mask), np.zeros(5), atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_sp_and_pkt_are_blind_to_the_order_of_features_and_of_the_batch(seed):
    student, teacher, mask = two(seed)
    order, batch = (jax.random.permutation(jax.random.key(seed + n), size) for n, size in ((3, 4), (4, 5)))
    for term in (jax.jit(sp.sp), PKT):
        values = term(student, teacher, mask)
        np.testing.assert_allclose(term(student[:, order], teacher[:, ::-1], mask), values, rtol=1e-4, atol=1e-6)
        moved = term(student[batch], teacher[batch], mask[batch])
        np.testing.assert_allclose(moved, values[batch], rtol=1e-4, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.floats(0.01, 100))
def test_cka_is_blind_to_orthogonal_maps_and_scale(seed, scale):
    student, teacher, mask = two(seed)
    value = loss(relation.cka(student, teacher, mask), mask)
    moved = relation.cka(scale * student @ rotation(seed, 4), teacher @ rotation(seed, 6) + 1, mask)
    np.testing.assert_allclose(loss(moved, mask), value, rtol=1e-4)
    assert 0 <= value <= 1 + 1e-6


@settings(deadline=None, max_examples=25)
@given(SEEDS)
def test_cka_is_the_ratio_of_its_definition(seed):
    """|| Y^T X ||^2 / (|| X^T X || || Y^T Y ||) for centred X and Y, and 1 with itself."""
    student, teacher, _ = two(seed)
    x, y = (np.asarray(z - z.mean(0, keepdims=True), np.float64) for z in (student, teacher))
    expected = np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    np.testing.assert_allclose(jnp.mean(relation.cka(student, teacher, jnp.ones(5))), expected, rtol=1e-4)
    np.testing.assert_allclose(jnp.mean(relation.cka(student, student, jnp.ones(5))), 1, rtol=1e-5)


def test_cka_by_hand():
    """(1, 0, -1) and (1, -2, 1) are orthogonal; what is constant aligns with nothing."""
    left, right = jnp.array([[1.0], [0], [-1]]), jnp.array([[4.0], [1], [4]])
    np.testing.assert_allclose(relation.cka(left, right, jnp.ones(3)), [0, 0, 0], atol=1e-6)
    np.testing.assert_array_equal(relation.cka(left, jnp.ones((3, 2)), jnp.ones(3)), [0, 0, 0])
