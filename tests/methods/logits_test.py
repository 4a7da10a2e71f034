"""Methods over logits: worked by hand, with labels that are missing or mixed, and the fields that make no sense."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.core import UNLABELLED, Output
from jaxdistill.errors import UserError
from jaxdistill.losses import divergence
from jaxdistill.methods.adaptive_temperature import AdaptiveTemperature, cwsm, flsw, temperatures
from jaxdistill.methods.class_wise_top_k import ClassWiseTopK
from jaxdistill.methods.ctkd import CTKD, curriculum, reverse
from jaxdistill.methods.dist import DIST, dist, pearson
from jaxdistill.methods.dkd import DKD, dkd, tckd_nckd
from jaxdistill.methods.hard_label import HardLabel, hard_label
from jaxdistill.methods.kd import KD, kd
from jaxdistill.methods.logit_regression import LogitRegression, logit_regression
from jaxdistill.methods.logit_standardization import LogitStandardization, standardize
from jaxdistill.methods.mlkd import MLKD, batch_relation, class_relation, least_confident
from jaxdistill.methods.multi_label import multi_label
from jaxdistill.methods.nkd import NKD, nkd
from jaxdistill.methods.ranking import Ranking
from jaxdistill.methods.teacher_free import TeacherFree, teacher_free, virtual_teacher
from jaxdistill.methods.total_variation import TotalVariation
from jaxdistill.methods.weak_to_strong import WeakToStrong, weak_to_strong
from jaxdistill.methods.wsld import WSLD, wsld

P = jnp.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]])
Q = jnp.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]])
TEACHER, STUDENT = jnp.log(P), jnp.log(Q)
BATCH = {"mask": jnp.ones(2), "label": jnp.array([0, 2])}


def applied(method, batch=BATCH, student=STUDENT, teacher=TEACHER):
    return method.apply({}, Output(student), Output(teacher), batch)


def test_hard_label_is_the_teachers_likeliest_class():
    np.testing.assert_allclose(hard_label(STUDENT, TEACHER), [np.log(4), np.log(4)], rtol=1e-6)
    smoothed = 0.7 * np.log(4) + 0.1 * (np.log(4) + np.log(2) + np.log(4))
    np.testing.assert_allclose(hard_label(STUDENT, TEACHER, 0.3)[0], smoothed, rtol=1e-6)


def test_logit_regression():
    student, teacher = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[1.0, 4.0, 7.0]])
    np.testing.assert_allclose(logit_regression(student, teacher), [(4 + 16) / 2])
    np.testing.assert_allclose(logit_regression(student, teacher, 2.0), [(1 + 4) / 2])
    # Centred: (-1, 0, 1) and (-3, 0, 3).
    np.testing.assert_allclose(applied(LogitRegression(centred=True), BATCH, student, teacher), [(4 + 4) / 2])


def test_dkd_splits_at_the_label():
    """Label 0: 1/2 against 1/4, and the others (1/2, 1/2) against (2/3, 1/3)."""
    tckd, nckd = tckd_nckd(STUDENT, TEACHER, BATCH["label"])
    np.testing.assert_allclose(tckd[0], 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75), rtol=1e-5)
    np.testing.assert_allclose(nckd[0], 0.5 * np.log(0.5 / (2 / 3)) + 0.5 * np.log(0.5 / (1 / 3)), rtol=1e-5)
    expected = 1 * tckd + 8 * nckd
    np.testing.assert_allclose(dkd(STUDENT, TEACHER, BATCH["label"], 1.0, 1.0, 8.0), expected, rtol=1e-6)
    np.testing.assert_allclose(applied(DKD(temperature=1.0)), expected, rtol=1e-6)


def test_dkd_of_two_classes_has_no_others():
    teacher, student = jax.random.normal(jax.random.key(0), (2, 4, 2))
    tckd, nckd = tckd_nckd(student, teacher, jnp.array([0, 1, 0, 1]))
    np.testing.assert_array_equal(nckd, 0)
    np.testing.assert_allclose(tckd, divergence.kl(teacher, student), rtol=1e-4, atol=1e-6)


def test_dkd_at_gaps_where_the_log_of_a_probability_is_infinite():
    student, teacher = jnp.array([[1e4, 0.0, 0.0]]), jnp.array([[0.0, 1e4, 0.0]])
    value, gradient = jax.jit(jax.value_and_grad(lambda s: dkd(s, teacher, jnp.array([0]), 1.0, 1.0, 1.0).sum()))(
        student
    )
    np.testing.assert_allclose(value, (1e4 - np.log(2)) + np.log(2), rtol=1e-6)
    np.testing.assert_allclose(gradient, [[1.0, -1.0, 0.0]], atol=1e-6)


def test_nkd_weighs_the_label_as_the_teacher_does():
    target = 0.5 * np.log(4)
    others = -(0.5 * np.log(2 / 3) + 0.5 * np.log(1 / 3))
    np.testing.assert_allclose(nkd(STUDENT, TEACHER, BATCH["label"], 1.0, 1.5)[0], target + 1.5 * others, rtol=1e-5)
    mixed = jnp.array([[0.6, 0.4, 0.0], [0.0, 0.1, 0.9]])
    found = nkd(STUDENT, TEACHER, mixed, 2.0, 1.5)
    np.testing.assert_allclose(found, nkd(STUDENT, TEACHER, BATCH["label"], 2.0, 1.5))


def test_wsld_counts_an_example_more_where_the_student_lags():
    """Cross-entropies log 4 and log 2: the weight is 1 - exp(-2); as a constant it has no gradient."""
    soft = divergence.soft_cross_entropy(TEACHER / 2, STUDENT / 2)
    weight = 1 - np.exp(-2)
    np.testing.assert_allclose(wsld(STUDENT, TEACHER, BATCH["label"], 2.0)[0], weight * 4 * soft[0], rtol=1e-5)
    gradient = jax.jit(jax.grad(lambda s: wsld(s, TEACHER, BATCH["label"], 2.0)[0]))(STUDENT)
    expected = jax.jit(jax.grad(lambda s: weight * kd(s, TEACHER, 2.0)[0]))(STUDENT)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_the_teacher_made_by_hand():
    p = jnp.exp(virtual_teacher(jnp.array([1]), 3, 0.9))
    np.testing.assert_allclose(p, [[0.05, 0.9, 0.05]], rtol=1e-5)
    softened = np.sqrt(p[0]) / np.sqrt(p[0]).sum()
    q = np.sqrt(Q[0]) / np.sqrt(Q[0]).sum()
    found = teacher_free(STUDENT[:1], jnp.array([1]), 0.9, 2.0)
    np.testing.assert_allclose(found, [np.sum(softened * np.log(softened / q))], rtol=1e-4)
    mixed = jnp.exp(virtual_teacher(jnp.array([[0.0, 0.5, 0.5]]), 3, 0.9))
    np.testing.assert_allclose(mixed, [[0.05, 0.475, 0.475]], rtol=1e-5)


def test_multi_label_adds_the_classes():
    teacher, student = jnp.array([[np.log(3), 0.0]]), jnp.array([[0.0, 0.0]])
    expected = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    np.testing.assert_allclose(multi_label(student, teacher), [expected], rtol=1e-5)


def test_standardize_divides_by_the_unbiased_deviation():
    """Of (0, 1, 5): mean 2, squares 4 + 1 + 9 over 2."""
    np.testing.assert_allclose(standardize(jnp.array([0.0, 1.0, 5.0])), np.array([-2, -1, 3]) / np.sqrt(7), rtol=1e-5)
    np.testing.assert_array_equal(standardize(jnp.full((2, 3), 7.0)), 0)


@pytest.mark.parametrize(("method", "plain"), [(KD(standardize=True), KD()), (DKD(standardize=True), DKD())])
def test_a_standardising_method_is_the_method_of_standardised_logits(method, plain):
    expected = applied(plain, BATCH, standardize(STUDENT), standardize(TEACHER))
    np.testing.assert_allclose(applied(method), expected, rtol=1e-6)
    assert not np.allclose(applied(method), applied(plain))


def test_logit_standardization_is_kd_of_them():
    expected = kd(standardize(STUDENT), standardize(TEACHER), 2.0)
    np.testing.assert_allclose(applied(LogitStandardization()), expected, rtol=1e-6)


def test_pearson():
    x, y = jnp.array([1.0, 2.0, 3.0, 9.0]), jnp.array([2.0, 4.0, 6.0, -5.0])
    kept = jnp.array([1.0, 1.0, 1.0, 0.0])
    np.testing.assert_allclose(pearson(x, y, kept, axis=0, eps=1e-8), 1, rtol=1e-6)
    np.testing.assert_allclose(pearson(x, y, jnp.ones(4), axis=0, eps=1e-8), np.corrcoef(x, y)[0, 1], rtol=1e-5)
    # Norms sqrt(2) and 2 sqrt(2), product 4.
    np.testing.assert_allclose(pearson(x, y, kept, axis=0, eps=1.0), 4 / 5, rtol=1e-6)
    np.testing.assert_allclose(pearson(x, y, kept, axis=0, eps=4.0, clamp=True), 4 / 16, rtol=1e-6)
    assert pearson(x, jnp.ones(4), kept, axis=0, eps=1e-8) == 0


def test_dist_in_a_batch_of_one_has_no_columns_to_compare():
    inter, intra = dist(STUDENT[:1], TEACHER[:1], jnp.ones(1), 1.0)
    assert intra == 1
    np.testing.assert_allclose(inter, 1 - np.corrcoef(P[0], Q[0])[0, 1], rtol=1e-5)


def test_dist_by_hand():
    """Of two examples, a column correlates by 1 or -1: here -1, 1, and 0 for a constant one."""
    rows = 1 - np.array([np.corrcoef(p, q)[0, 1] for p, q in zip(P, Q, strict=True)])
    found = applied(DIST(beta=2.0, gamma=3.0, temperature=1.0))
    np.testing.assert_allclose(found, 2 * rows + 3 * 1, rtol=1e-5)


def test_mlkd_by_hand():
    """One temperature, two examples, P P' and P' P written out."""
    grams = np.asarray(P @ P.T - Q @ Q.T), np.asarray(P.T @ P - Q.T @ Q)
    np.testing.assert_allclose(batch_relation(STUDENT, TEACHER, jnp.ones(2), 1.0), (grams[0] ** 2).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(class_relation(STUDENT, TEACHER, jnp.ones(2), 1.0), (grams[1] ** 2).sum(-1), rtol=1e-4)
    expected = kd(STUDENT, TEACHER, 1.0).mean() + (grams[0] ** 2).sum() / 2 + (grams[1] ** 2).sum() / 3
    np.testing.assert_allclose(applied(MLKD(temperatures=(1.0,))).mean(), expected, rtol=1e-5)


def test_mlkd_teaches_the_examples_whose_teacher_is_least_confident():
    """Those themselves, where the authors' mask scales the mean of all."""
    np.testing.assert_array_equal(
        least_confident(jnp.array([0.9, 0.4, 0.5, 0.1]), jnp.array([1, 1, 1, 0]), 0.5), [0, 1, 1, 0]
    )
    own = Output(STUDENT), Output(TEACHER), BATCH
    gradient = jax.jit(jax.grad(lambda s: MLKD(share=0.5).apply({}, Output(s), *own[1:])[1]))(STUDENT)
    everything = jax.jit(jax.grad(lambda s: MLKD().apply({}, Output(s), *own[1:])[1]))(STUDENT)
    assert abs(gradient[1]).max() < 0.1 * abs(everything[1]).max()


def test_the_gradient_of_the_temperature_is_turned_around():
    outputs, strength = (Output(STUDENT), Output(TEACHER), BATCH), 0.25
    variables = CTKD().init(jax.random.key(0), *outputs)
    np.testing.assert_allclose(variables["params"]["temperature"], 1.0)

    def loss(variables, progress):
        return CTKD(progress=progress, shape="linear").apply(variables, *outputs).mean()

    def forward(raw):
        return kd(STUDENT, TEACHER, 1 + 20 * jax.nn.sigmoid(raw)).mean()

    # A schedule gives the field as a traced number.
    found = jax.jit(jax.grad(loss))(variables, jnp.float32(strength))["params"]["temperature"]
    np.testing.assert_allclose(found, -strength * jax.jit(jax.grad(forward))(1.0), rtol=1e-4)
    np.testing.assert_allclose(loss(variables, strength), forward(1.0), rtol=1e-6)
    assert jax.jit(jax.grad(lambda x: reverse(x, 2.0) * 3))(1.0) == -6


def test_the_curriculum_goes_from_0_to_1_and_stays():
    progress = jnp.array([-1.0, 0.0, 0.5, 1.0, 3.0])
    np.testing.assert_allclose(curriculum(progress, "cosine"), [0, 0, 0.5, 1, 1], atol=1e-6)
    np.testing.assert_allclose(curriculum(progress, "linear"), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(curriculum(jnp.array(0.25), "cosine"), (1 - np.sqrt(0.5)) / 2, rtol=1e-6)


def test_temperatures_of_examples():
    np.testing.assert_allclose(temperatures(jnp.array([1.0, 3.0, 99.0]), jnp.array([1, 1, 0]), 4.0, 2.0)[:2], [6, 2])
    np.testing.assert_allclose(flsw(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]]), 2.0), [1])
    np.testing.assert_allclose(
        flsw(jnp.array([[3.0, 4.0]]), jnp.array([[4.0, 3.0]]), 2.0, eps=0.0), [0.04**2], rtol=1e-4
    )
    np.testing.assert_allclose(cwsm(STUDENT, eps=0.0), [2, 2], rtol=1e-5)


def test_no_temperature_falls_below_the_least():
    """The weights are 2 and 4/3: temperatures 4 - 10/3, raised to 1, and 4 + 10/3."""
    method = AdaptiveTemperature(rule="cwsm", beta=10.0)
    student = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.125, 0.125, 0.75]]))
    found = applied(method, BATCH, student, STUDENT)
    np.testing.assert_allclose(found[0], kd(student, STUDENT, 1.0)[0], rtol=1e-4)
    np.testing.assert_allclose(found[1], kd(student, STUDENT, 4 + 10 / 3)[1], rtol=2e-3)


@pytest.mark.parametrize("method", [DKD(), NKD(), WSLD(), TeacherFree()], ids=lambda m: type(m).__name__)
def test_unlabelled_examples_do_not_count(method):
    batch = {"label": jnp.array([2, UNLABELLED, 0]), "mask": jnp.array([1.0, 1.0, 0.0])}
    student, teacher = jax.random.normal(jax.random.key(0), (2, 3, 4))
    np.testing.assert_array_equal(method.valid(batch), [1, 0, 0])

    def loss(x, batch):
        return core.mean(method.apply({}, Output(x), Output(teacher[: len(x)]), batch), method.valid(batch))

    value, gradient = jax.jit(jax.value_and_grad(loss))(student, batch)
    np.testing.assert_allclose(value, loss(student[:1], {n: x[:1] for n, x in batch.items()}), rtol=1e-6)
    np.testing.assert_array_equal(gradient[1:], 0)


@pytest.mark.parametrize("method", [NKD(), WSLD(), TeacherFree()], ids=lambda m: type(m).__name__)
def test_a_distribution_on_one_class_is_that_label(method):
    soft = BATCH | {"label": jax.nn.one_hot(BATCH["label"], 3)}
    np.testing.assert_allclose(applied(method, soft), applied(method), rtol=1e-6)
    np.testing.assert_array_equal(method.valid(soft | {"label": soft["label"].at[1].set(0)}), [1, 0])


def test_dkd_refuses_labels_that_mix_classes():
    with pytest.raises(UserError, match="mixes classes"):
        applied(DKD(), BATCH | {"label": P})


@pytest.mark.parametrize(
    "method", [DIST(), MLKD(), MLKD(share=0.5), AdaptiveTemperature()], ids=lambda m: type(m).__name__
)
def test_masked_rows_change_nothing(method):
    """Not even where it is no number."""
    student, teacher = jax.random.normal(jax.random.key(0), (2, 4, 3))
    expected = applied(method, {"mask": jnp.ones(3)}, student[:3], teacher[:3])
    spoiled = student.at[3].set(jnp.nan), teacher.at[3].set(jnp.inf)
    found = applied(method, {"mask": jnp.array([1.0, 1.0, 1.0, 0.0])}, *spoiled)
    np.testing.assert_allclose(found[:3], expected, rtol=1e-5)


@pytest.mark.parametrize("method", [KD(), DKD(), DIST(), ClassWiseTopK(k=2)], ids=lambda m: type(m).__name__)
def test_logits_and_temperature_twice_as_large_are_four_times_the_loss(method):
    """T^2, which keeps the size of the gradient."""
    found, single = (applied(method.clone(temperature=t), BATCH, t * STUDENT, t * TEACHER) for t in (2.0, 1.0))
    np.testing.assert_allclose(found, 4 * single, rtol=1e-4)


@pytest.mark.parametrize(
    "method", [KD(), DKD(), DIST(), TotalVariation(), ClassWiseTopK(k=2)], ids=lambda m: type(m).__name__
)
def test_bfloat16_logits_are_not_divided_in_bfloat16(method):
    method = method.clone(temperature=3.0)
    student, teacher = (jax.random.normal(jax.random.key(i), (2, 3)).astype(jnp.bfloat16) for i in (0, 1))
    expected = applied(method, BATCH, student.astype(jnp.float32), teacher.astype(jnp.float32))
    np.testing.assert_allclose(applied(method, BATCH, student, teacher), expected, rtol=1e-6)


NONSENSE = [
    *[m(temperature=bad) for m in (KD, DKD, NKD, DIST, WSLD, TeacherFree, TotalVariation) for bad in (0.0, np.inf)],
    *[m(temperature=-1.0) for m in (LogitRegression, LogitStandardization, ClassWiseTopK, AdaptiveTemperature)],
    HardLabel(label_smoothing=1.0),
    DKD(alpha=-1.0),
    DKD(beta=-1.0),
    NKD(gamma=-1.0),
    DIST(beta=-1.0),
    DIST(gamma=-1.0),
    TeacherFree(correct=1.0),
    ClassWiseTopK(k=0),
    Ranking(margin=0.0),
    CTKD(start=0.0),
    CTKD(span=-1.0),
    CTKD(progress=-1.0),
    CTKD(progress=1.5),
    MLKD(temperatures=()),
    MLKD(temperatures=(4.0, 0.0)),
    MLKD(share=0.0),
    AdaptiveTemperature(beta=-1.0),
    AdaptiveTemperature(gamma=0.0),
    AdaptiveTemperature(least=0.0),
    KD(chunk=-1),
    DIST(chunk=4),
    MLKD(chunk=4),
    AdaptiveTemperature(chunk=4),
]


@pytest.mark.parametrize("method", NONSENSE, ids=lambda m: type(m).__name__)
def test_invalid_fields_are_refused(method):
    with pytest.raises(UserError, match="makes no sense|must"):
        method.check()
    type(method)().check()


@pytest.mark.parametrize(
    "method", [Ranking(loss="hing"), AdaptiveTemperature(rule="flws")], ids=lambda m: type(m).__name__
)
def test_names_that_are_not_there(method):
    with pytest.raises(UserError, match="Did you mean"):
        method.check()


def test_weak_to_strong_mixes_the_teachers_opinion_with_its_own():
    """Two classes: the teacher says (1/4, 3/4), the student (2/3, 1/3), which is its own class 0."""
    student, teacher = jnp.log(jnp.array([[2 / 3, 1 / 3]])), jnp.log(jnp.array([[0.25, 0.75]]))
    taught = -(0.25 * np.log(2 / 3) + 0.75 * np.log(1 / 3))
    for confidence in (0.0, 0.3, 1.0):
        expected = (1 - confidence) * taught - confidence * np.log(2 / 3)
        np.testing.assert_allclose(weak_to_strong(student, teacher, confidence), [expected], rtol=1e-6)
    slope = jax.jit(jax.grad(lambda z: weak_to_strong(z, teacher, 0.5).sum()))(student)
    np.testing.assert_allclose(slope, [[2 / 3 - 0.5 * 0.25 - 0.5, 1 / 3 - 0.5 * 0.75]], rtol=1e-5)
    with pytest.raises(UserError, match=r"confidence must be in \[0, 1\], got 1.5"):
        WeakToStrong(confidence=1.5).check()
