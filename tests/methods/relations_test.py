"""Relations of a batch, of channels and of layers: worked by hand."""

import itertools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.conformance import toy_outputs
from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.methods import afd, cc, cka, ickd, irg, kdsvd, pkt, rkd, sp

ALIKE, APART = jnp.array([[1.0, 0.0], [1.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0]])
LINE, EVEN = jnp.array([[0.0], [1.0], [3.0]]), jnp.array([[0.0], [1.0], [2.0]])
CORNER = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
ROOT = 0.5**0.5


def all_of(x):
    return jnp.ones(x.shape[0])


def test_sp_by_hand():
    """Rows (1, 0) and (0, 1) against (r, r) twice: (1 - r)^2 + r^2 each, over B^2."""
    actual = sp.sp(7 * APART, ALIKE, all_of(ALIKE))
    np.testing.assert_allclose(jnp.mean(actual), 2 * ((1 - ROOT) ** 2 + ROOT**2) / 4, rtol=1e-6)


def test_cc_by_hand():
    """Only the two products of different rows differ, 0 and 1."""
    mask = all_of(ALIKE)
    np.testing.assert_allclose(jnp.mean(cc.cc(7 * APART, ALIKE, mask, "bilinear", 0.4, 2)), 2 / 4, rtol=1e-6)
    step = np.exp(-0.8) * (0.8 + 0.8**2 / 2)
    np.testing.assert_allclose(jnp.mean(cc.cc(APART, ALIKE, mask, "gaussian", 0.4, 2)), 2 * step**2 / 4, rtol=1e-6)


def test_cc_expands_the_gaussian_kernel():
    x = jax.random.normal(jax.random.key(0), (4, 3))
    unit = np.asarray(x / jnp.linalg.norm(x, axis=1, keepdims=True))
    exact = np.exp(-0.4 * np.sum((unit[:, None] - unit[None]) ** 2, -1))
    np.testing.assert_allclose(cc.correlations(x, all_of(x), "gaussian", 0.4, 12), exact, rtol=1e-5)


def test_rkd_by_hand():
    """Distances 1, 3, 2 over 2 against 1, 2, 1 over 4/3: two pairs are 1/4 off, half of its square each, both ways."""
    mask = all_of(LINE)
    np.testing.assert_allclose(jnp.mean(rkd.distance(LINE, EVEN, mask)), 4 * 0.25**2 / 2 / 9, rtol=1e-6)
    # The angles' cosines are 1, -1, 1 on the line and 0, r, r at the corner; smooth L1 is linear beyond 1.
    off = 1 / 2 + (1 + ROOT - 1 / 2) + (1 - ROOT) ** 2 / 2
    np.testing.assert_allclose(jnp.mean(rkd.angle(LINE, CORNER, mask)), 2 * off / 27, rtol=1e-5)


def test_rkd_adds_its_terms_with_their_weights():
    student, teacher = Output(LINE, {"pooled": LINE}), Output(LINE, {"pooled": CORNER})
    batch = {"mask": all_of(LINE)}
    near, angle = rkd.distance(LINE, CORNER, batch["mask"]), rkd.angle(LINE, CORNER, batch["mask"])
    actual = rkd.RKD(distance_weight=3.0, angle_weight=5.0).apply({}, student, teacher, batch)
    np.testing.assert_allclose(actual, 3 * near + 5 * angle, rtol=1e-6)
    squared = rkd.RKD(angle_weight=0.0, squared=True).apply({}, student, teacher, batch)
    np.testing.assert_allclose(squared, rkd.distance(LINE, CORNER, batch["mask"], True), rtol=1e-6)


def test_pkt_by_hand():
    """(1/2, 1/2) against (2/3, 1/3): its divergence, over B."""
    expected = (0.5 * np.log(0.5 * 3 / 2) + 0.5 * np.log(0.5 * 3)) / 2
    np.testing.assert_allclose(pkt.pkt(7 * APART, ALIKE, all_of(ALIKE), 1e-9), [expected] * 2, rtol=1e-5)


def test_cka_by_hand():
    """(1, 0, -1) and (1, -2, 1) have nothing in common, (1, 0, -1) and (0, 1, 2) everything."""
    x = jnp.array([[1.0], [0], [-1]])
    np.testing.assert_allclose(jnp.mean(cka.cka(x, jnp.array([[4.0], [1], [4]]), all_of(x))), 1, rtol=1e-6)
    np.testing.assert_allclose(jnp.mean(cka.cka(x, EVEN, all_of(x))), 0, atol=1e-6)


def test_ickd_by_hand():
    """Channels that are apart against channels that are alike: as `sp`, with channels for examples, over C."""
    student, teacher = (7 * x.T[None, None] for x in (APART, ALIKE))
    expected = 2 * ((1 - ROOT) ** 2 + ROOT**2) / 2
    np.testing.assert_allclose(ickd.ickd(student, teacher), [expected], rtol=1e-6)


def test_irg_by_hand():
    """Squared distances 1, 9, 4 over 9 against 1, 4, 1 over 4; layers 0, 1, 2 and 0, 2, 2 apart, squared, over 4."""
    mask = all_of(LINE)
    edges = 2 * ((1 / 9 - 1 / 4) ** 2 + (4 / 9 - 1 / 4) ** 2) / 9
    np.testing.assert_allclose(jnp.mean(irg.edge_loss([LINE], [EVEN], mask)), edges, rtol=1e-5)
    student, teacher = [0 * EVEN, EVEN], [0 * EVEN, jnp.array([[0.0], [2.0], [2.0]])]
    np.testing.assert_allclose(irg.transformation_loss(student, teacher, mask), [0, (1 / 4 - 1) ** 2, 0], rtol=1e-6)


def test_irg_averages_the_channels_of_the_wider_layer():
    wide, narrow = jnp.array([[1.0, 3.0, 5.0, 5.0], [0, 0, 0, 0]]), jnp.array([[0.0, 0.0], [1.0, 0.0]])
    actual = irg.transformation(narrow, wide, jnp.ones(2))
    np.testing.assert_allclose(actual, [1, 1 / (2**2 + 5**2)], rtol=1e-6)


def test_irg_averages_over_layers_and_places():
    x = jax.random.normal(jax.random.key(0), (3, 2, 2, 4))
    np.testing.assert_allclose(irg.vectors(x, jnp.array([1.0, 1, 0])), x.mean((1, 2)).at[2].set(0), rtol=1e-5)
    mask, (a, b) = jnp.ones(3), (x.mean((1, 2)), x.mean(1).reshape(3, -1))
    both = irg.edge_loss([a, b], [b, b], mask)
    np.testing.assert_allclose(both, irg.edge_loss([a], [b], mask) / 2, rtol=1e-6)


def test_afd_by_hand():
    """One of two student layers is as the teacher's, the other lights up at the other of two places."""
    left, right = jnp.array([[[[3.0], [0.0]]]]), jnp.array([[[[0.0], [5.0]]]])
    attention = jnp.array([[[0.25, 0.75]]])
    np.testing.assert_allclose(afd.afd([right, 2 * left], [left], attention), [0.25 * 1], rtol=1e-6)
    both = jnp.array([[[0.25, 0.75], [0.5, 0.5]]])
    np.testing.assert_allclose(afd.afd([right, left], [left, right], both), [0.25 + 0.5], rtol=1e-6)


def test_afd_attends_to_the_students_layers(monkeypatch):
    student, teacher = (toy_outputs.output("images", seed) for seed in (0, 1))
    method, data, calls = afd.AFD(layers="stage1,stage2=stage3"), toy_outputs.batch("images"), []
    function = afd.afd
    monkeypatch.setattr(afd, "afd", lambda *arguments: calls.append(arguments) or function(*arguments))
    method.init(jax.random.key(0), student, teacher, data)
    [(student_maps, teacher_maps, attention)] = calls
    assert [x.shape[3] for x in student_maps] == [4, 6]
    assert [x.shape[3] for x in teacher_maps] == [4, 8]
    assert attention.shape == (toy_outputs.ROWS, 2, 2)
    np.testing.assert_allclose(attention.sum(2), np.ones((toy_outputs.ROWS, 2)), rtol=1e-5)
    assert (jnp.std(attention, 0) > 1e-3).all(), "each example has an attention of its own"


def flat(*vector, places=4):
    """A map that is the same at all places: its right singular vector is that vector."""
    return jnp.broadcast_to(jnp.array(vector), (1, 2, places // 2, len(vector)))


def test_kdsvd_by_hand():
    """The student's second layer does not turn; the teacher's turns to (0.8, 0.6)."""
    student, teacher = [flat(1.0, 0.0), flat(2.0, 0.0)], [flat(3.0, 0.0), flat(4.0, 3.0)]
    first, second, turned = np.array([1.0, 0]), np.array([1.0, 0]), np.array([0.8, 0.6])

    def kernel(x, y):
        return np.exp(-((x[:, None] - y[None]) ** 2) / 8)

    expected = np.sum((kernel(second, first) - kernel(turned, first)) ** 2)
    np.testing.assert_allclose(kdsvd.kdsvd(student, teacher, 1), [expected], rtol=1e-4)
    np.testing.assert_allclose(kdsvd.kdsvd([-student[0], student[1]], teacher, 1), [expected], rtol=1e-4)
    np.testing.assert_allclose(kdsvd.kdsvd(student, [teacher[0], -teacher[1]], 1), [expected], rtol=1e-4)


@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 3, 7)])
def test_singular_vectors_and_their_derivative(shape):
    """Against a decomposition of finite differences; outer products have no sign."""
    with jax.enable_x64(True):
        x = jax.random.normal(jax.random.key(0), shape, "float64")
        x = x / jnp.linalg.norm(x, axis=(1, 2), keepdims=True)
        move = jax.random.normal(jax.random.key(1), shape, "float64")

        def outer(vectors):
            return jnp.einsum("bck,bdk->bkcd", vectors, vectors)

        def exact(x):
            return outer(np.linalg.svd(np.asarray(x))[2][:, :2].swapaxes(1, 2))

        values, _ = kdsvd.right_vectors(x, 2)
        np.testing.assert_allclose(values, np.linalg.svd(np.asarray(x))[1][:, :2], rtol=1e-6)
        actual, derivative = jax.jvp(lambda x: outer(kdsvd.right_vectors(x, 2)[1]), (x,), (move,))
        np.testing.assert_allclose(actual, exact(x), atol=1e-8)
        step = 1e-6
        np.testing.assert_allclose(
            derivative, (exact(x + step * move) - exact(x - step * move)) / (2 * step), atol=1e-3
        )


def test_kdsvd_scales_by_the_teachers_singular_values():
    """3 and 4, whose norm is 5, for the teacher's second and first channel; the student's order is the other."""
    student, teacher = (kdsvd.matrix(jnp.diag(jnp.array(x))[None, None], "channels") for x in ([7.0, 1.0], [3.0, 4.0]))
    left_side, right_side, values = kdsvd.directions(student, teacher, 2)
    np.testing.assert_allclose(values, [[0.8, 0.6]], rtol=1e-5)
    np.testing.assert_allclose(right_side, [[[0, 0.6], [0.8, 0]]], atol=1e-6)
    np.testing.assert_allclose(left_side, right_side, atol=1e-6)


def test_kdsvd_does_not_depend_on_the_signs_of_vectors():
    """With fewer places than channels the decomposition's sign is that of the map."""
    student, teacher = jax.random.normal(jax.random.key(0), (2, 2, 3, 1, 2, 6))
    value = kdsvd.kdsvd([*student], [*teacher], 2)
    np.testing.assert_allclose(kdsvd.kdsvd([*student], [teacher[0], -teacher[1]], 2), value, rtol=1e-4)
    np.testing.assert_allclose(kdsvd.kdsvd([student[0], -student[1]], [*teacher], 2), value, rtol=1e-4)


@pytest.mark.slow
def test_kdsvd_over_the_width_is_invariant_to_the_order_of_channels():
    student, teacher = jax.random.normal(jax.random.key(0), (2, 2, 3, 4, 5, 6)) + 1
    value = kdsvd.kdsvd([*student], [*teacher], 1, "width")
    np.testing.assert_allclose(kdsvd.kdsvd([*student[..., ::-1]], [*teacher], 1, "width"), value, rtol=1e-3)
    assert abs(kdsvd.kdsvd([*student[..., ::-1]], [*teacher], 1) - kdsvd.kdsvd([*student], [*teacher], 1)).max() > 1e-5


def test_kdsvd_refuses_one_layer():
    student, teacher = (toy_outputs.output("images", seed) for seed in (0, 1))
    with pytest.raises(UserError, match="one pair"):
        kdsvd.KDSVD(layers="stage1").init(jax.random.key(0), student, teacher, toy_outputs.batch("images"))


@pytest.mark.parametrize(
    "method",
    [
        cc.CC(kernel="cubic"),
        cc.CC(gamma=0.0),
        cc.CC(order=0),
        rkd.RKD(distance_weight=-1.0),
        rkd.RKD(angle_weight=-1.0),
        rkd.RKD(distance_weight=0.0, angle_weight=0.0),
        pkt.PKT(eps=0.0),
        irg.IRG(edge_weight=-1.0),
        irg.IRG(layers="learned:stage*"),
        afd.AFD(width=0),
        kdsvd.KDSVD(vectors=0),
        kdsvd.KDSVD(space="height"),
        kdsvd.KDSVD(layers="mean:stage*"),
    ],
    ids=repr,
)
def test_invalid_fields_are_refused(method):
    type(method)().check()
    with pytest.raises(UserError):
        method.check()


LARGE_BATCH = """
import jax, jax.numpy as jnp
from jaxdistill.core import Output
from jaxdistill.methods.kdsvd import KDSVD

def output(seed):
    keys = jax.random.split(jax.random.key(seed), 3)
    maps = [jax.random.normal(key, (128, 8 >> i, 8 >> i, 16 << i)) for i, key in enumerate(keys)]
    return Output(jnp.zeros((128, 10)), {f"stage{i + 1}": x for i, x in enumerate(maps)})

def loss(student):
    values = KDSVD().apply({}, student, output(1), {})
    return jnp.mean(values), values

loss = jax.jit(jax.value_and_grad(loss, has_aux=True))
for _ in range(3):
    (_, values), gradient = jax.block_until_ready(loss(output(0)))
assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(gradient))
print(*values.tolist())
"""


def kdsvd_by_numpy(student, teacher):
    """The loss of one example with one vector: maps `[height, width, channels]` of consecutive layers."""
    directions = []
    for left, right in zip(student, teacher, strict=True):
        vectors, target = (np.linalg.svd(x.reshape(-1, x.shape[-1]))[2] for x in (left, right))
        target = target[0] * (1 if np.sum(target[0]) > 0 else -1)
        cosines = vectors[:4] @ target
        nearest = np.argmax(np.abs(cosines))
        directions.append((vectors[nearest] * np.sign(cosines[nearest]), target))
    turns = [
        [np.exp(-((y[:, None] - x[None]) ** 2) / 8) for x, y in itertools.pairwise(side)]
        for side in zip(*directions, strict=True)
    ]
    return sum(np.sum((left - right) ** 2) for left, right in zip(*turns, strict=True))


@pytest.mark.slow
def test_kdsvd_of_a_large_batch_does_not_deadlock():
    """Concurrent decompositions deadlock; in turn they give the values of numpy's decomposition."""
    plain = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    command = [sys.executable, "-c", LARGE_BATCH]
    process = subprocess.run(command, check=True, timeout=120, env=plain, capture_output=True, text=True)
    values = np.array(process.stdout.split(), float)
    maps = [
        [
            np.asarray(jax.random.normal(key, (128, 8 >> i, 8 >> i, 16 << i)))
            for i, key in enumerate(jax.random.split(jax.random.key(seed), 3))
        ]
        for seed in (0, 1)
    ]
    assert values.shape == (128,)
    for index in (0, 63, 127):
        np.testing.assert_allclose(
            values[index], kdsvd_by_numpy(*([x[index] for x in side] for side in maps)), rtol=1e-3
        )
