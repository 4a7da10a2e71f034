"""Methods over next tokens, worked by hand, and the settings that they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.core import Output, Unembedding
from jaxdistill.errors import UserError
from jaxdistill.losses import divergence, topk
from jaxdistill.methods.cross_entropy import CrossEntropy, cross_entropy
from jaxdistill.methods.forward_kl import ForwardKL, forward_kl
from jaxdistill.methods.gkd import GKD, gkd
from jaxdistill.methods.reverse_kl import ReverseKL, reverse_kl
from jaxdistill.methods.skew_kl import SkewKL, skew_kl
from jaxdistill.methods.symmetric_kl import SymmetricKL, symmetric_kl
from jaxdistill.methods.taid import TAID, taid
from jaxdistill.methods.top_k import TopK, top_k
from jaxdistill.methods.total_variation import total_variation
from jaxdistill.methods.ttm import TTM, power_sum, ttm
from jaxdistill.methods.uld import ULD, partners, uld
from jaxdistill.modules.next_token import align_next_tokens

P, Q = np.array([0.5, 0.25, 0.25]), np.array([0.25, 0.25, 0.5])
TEACHER, STUDENT = jnp.log(P), jnp.log(Q)
TEXT = align_next_tokens({"tokens": jnp.array([[3, 1, 2, 0]]), "mask": jnp.ones(1), "index": jnp.arange(1)})


def kl(p, q):
    return np.sum(p * np.log(p / q))


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-7)


def test_forward_and_reverse_kl():
    """They differ where the sides are not each other's mirror image."""
    other = np.array([0.7, 0.2, 0.1])
    close(forward_kl(STUDENT, jnp.log(other), 1.0), kl(other, Q))
    close(reverse_kl(STUDENT, jnp.log(other), 1.0), kl(Q, other))
    close(symmetric_kl(STUDENT, jnp.log(other), 0.25, 1.0), 0.75 * kl(other, Q) + 0.25 * kl(Q, other))


@pytest.mark.parametrize(
    "loss",
    [
        forward_kl,
        reverse_kl,
        lambda s, t, temperature: symmetric_kl(s, t, 0.3, temperature),
        lambda s, t, temperature: gkd(s, t, 0.3, temperature),
        lambda s, t, temperature: skew_kl(s, t, 0.3, temperature),
        lambda s, t, temperature: skew_kl(t, s, 0.3, temperature),
    ],
)
def test_temperature_divides_logits_and_its_square_multiplies(loss):
    close(loss(3 * STUDENT, 3 * TEACHER, 3.0), 9 * loss(STUDENT, TEACHER, 1.0))


def test_skew_kl_mixes_a_little_of_the_first_into_the_second():
    close(skew_kl(STUDENT, TEACHER, 0.1, 1.0), kl(P, 0.1 * P + 0.9 * Q))
    close(skew_kl(TEACHER, STUDENT, 0.1, 1.0), kl(Q, 0.1 * Q + 0.9 * P))
    np.testing.assert_allclose(skew_kl(STUDENT, TEACHER, 0.0, 1.0), forward_kl(STUDENT, TEACHER, 1.0), rtol=1e-5)
    np.testing.assert_allclose(skew_kl(TEACHER, STUDENT, 0.0, 1.0), kl(Q, P), rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_skew_kl_is_reversed_by_its_field(reverse):
    first, second = (Q, P) if reverse else (P, Q)
    found = SkewKL(reverse=reverse).apply({}, Output(STUDENT), Output(TEACHER), {})
    close(found, kl(first, 0.1 * first + 0.9 * second))


def test_gkd_has_the_papers_beta():
    """Beta is the teacher's share: near 0 it is beta times the forward KL."""
    other = np.array([0.7, 0.2, 0.1])
    m = 0.1 * other + 0.9 * Q
    close(gkd(STUDENT, jnp.log(other), 0.1, 1.0), 0.1 * kl(other, m) + 0.9 * kl(Q, m))
    np.testing.assert_allclose(gkd(STUDENT, jnp.log(other), 1e-5, 1.0), 1e-5 * kl(other, Q), rtol=1e-4)
    close(gkd(STUDENT, jnp.log(other), 0.0, 1.0, normalize_beta=True), kl(other, Q))
    close(gkd(STUDENT, jnp.log(other), 1.0, 1.0, normalize_beta=True), kl(Q, other))


def test_total_variation():
    close(total_variation(STUDENT, TEACHER), 0.25)


def test_ttm_takes_powers_of_the_teacher_alone():
    powers = P**0.5 / np.sum(P**0.5)
    close(ttm(STUDENT, TEACHER, 0.5), kl(powers, Q))
    close(power_sum(TEACHER + 3, 0.5), np.sum(P**0.5))
    said = Output(STUDENT[None, None]), Output(TEACHER[None, None])
    weighted = TTM(gamma=0.5, weighted=True).apply({}, *said, TEXT)
    close(weighted, [[np.sum(P**0.5) * kl(powers, Q)]])


def test_ttm_serves_images_too():
    said, batch = (Output(jnp.stack([STUDENT] * 2)), Output(jnp.stack([TEACHER] * 2))), {"mask": jnp.array([1.0, 0.0])}
    method = TTM(gamma=1.0)
    close(core.mean(method.apply({}, *said, batch), method.valid(batch)), kl(P, Q))


def test_taid_begins_at_the_student_and_ends_at_the_teacher():
    close(taid(STUDENT, TEACHER, 1.0), kl(P, Q))
    close(taid(STUDENT, TEACHER, 0.0), 0)
    between = P**0.5 * Q**0.5 / np.sum(P**0.5 * Q**0.5)
    value, gradient = jax.jit(jax.value_and_grad(lambda s: taid(s, TEACHER, 0.5)))(STUDENT)
    close(value, kl(between, Q))
    close(gradient, Q - between)  # the target is a constant


def test_cross_entropy_with_the_next_token():
    logits = jnp.log(jnp.array([[0.1, 0.2, 0.3, 0.4]] * 4))[None]
    method = CrossEntropy()
    close(method.apply({}, Output(logits), None, TEXT)[0, :3], -np.log([0.2, 0.3, 0.1]))
    close(core.mean(method.apply({}, Output(logits), None, TEXT), method.valid(TEXT)), -np.log(0.006) / 3)
    smooth = cross_entropy(logits[0, :1], jnp.array([3]), 0.2)
    close(smooth, [-0.8 * np.log(0.4) - 0.2 * np.mean(np.log([0.1, 0.2, 0.3, 0.4]))])


def test_tokens_out_of_the_vocabulary_do_no_harm_where_they_do_not_count():
    batch = {"tokens": jnp.array([[1, 0, -1, 99]]), "token_mask": jnp.array([[1, 1, 0, 0]]), "mask": jnp.ones(1)}
    batch = align_next_tokens(batch)
    method = CrossEntropy()

    def loss(logits):
        return core.mean(method.apply({}, Output(logits), None, batch), method.valid(batch))

    value, gradient = jax.jit(jax.value_and_grad(loss))(jnp.zeros((1, 4, 5)))
    close(value, np.log(5))
    assert np.isfinite(gradient).all()
    assert np.isfinite(method.apply({}, Output(jnp.zeros((1, 4, 5))), None, batch)).all()


def test_top_k_keeps_the_rest_as_one_class():
    close(top_k(STUDENT, TEACHER, 1), 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75))
    close(top_k(STUDENT, TEACHER, 3), kl(P, Q))
    elsewhere = jnp.log(jnp.array([0.06, 0.0, 0.94]) + 1e-30)  # right on the two likeliest but for their sizes
    certain = jnp.log(jnp.array([1.0, 0.0, 0.0]) + 1e-30)
    close(top_k(elsewhere, certain, 2), -np.log(0.06))


def test_top_k_takes_cached_outputs():
    """The same value from dense logits and from their `TopK`, whose own k counts; whole and in chunks."""
    student, teacher = jax.random.normal(jax.random.key(0), (2, 1, 4, 9))
    dense = TopK(k=3).apply({}, Output(student), Output(teacher), TEXT)
    assert (dense < divergence.kl(teacher, student)).all()
    for method in (TopK(k=5), TopK(k=5, chunk=3)):
        close(method.apply({}, Output(student), Output(topk.from_logits(teacher, 3)), TEXT), dense)


def test_jensen_shannon_of_a_top_k():
    p, q, m = np.array([0.5, 0.5]), np.array([0.25, 0.75]), np.array([0.375, 0.625])
    value = topk.jensen_shannon(topk.from_logits(TEACHER, 1), STUDENT, 0.5)
    close(value, 0.5 * kl(p, m) + 0.5 * kl(q, m))
    close(topk.jensen_shannon(topk.from_logits(TEACHER, 3), STUDENT, 0.5), gkd(STUDENT, TEACHER, 0.5, 1.0))


def test_uld_sorts_and_fills_with_zeros():
    larger = jnp.log(jnp.array([0.1, 0.2, 0.3, 0.4]))
    close(uld(jnp.log(jnp.array([0.3, 0.7])), larger), 0.3 + 0.0 + 0.2 + 0.1)
    close(uld(larger, jnp.log(jnp.array([0.3, 0.7]))), 0.6)
    close(uld(larger, larger[::-1]), 0)


def test_partners_are_the_kth_of_each():
    own, other = jnp.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0]]), jnp.array([[0, 0, 1, 1], [1, 1, 1, 1]])
    place, both = partners(own, other)
    np.testing.assert_array_equal(both, [[0, 1, 1, 0, 0], [0] * 5])
    np.testing.assert_array_equal(place[0, 1:3], [2, 3])


@pytest.mark.parametrize("chunk", [0, 3])
@pytest.mark.parametrize("lazy", [False, True])
def test_uld_across_tokenizers(chunk, lazy):
    """An answer of three tokens, and of two after a longer prompt: two pairs count, one before each token."""
    keys = jax.random.split(jax.random.key(0), 3)
    hidden, kernel = jax.random.normal(keys[0], (1, 6, 4)), jax.random.normal(keys[1], (4, 9))
    student, teacher = jax.random.normal(keys[2], (1, 5, 7)), hidden @ kernel
    batch = {
        "mask": jnp.ones(1),
        "tokens": jnp.zeros((1, 5), int),
        "answer_mask": jnp.array([[0, 0, 1, 1, 1]]),
        "teacher_tokens": jnp.zeros((1, 6), int),
        "teacher_answer_mask": jnp.array([[0, 0, 0, 1, 1, 0]]),
    }
    batch = align_next_tokens(batch)
    method = ULD(chunk=chunk)
    said = Output(Unembedding(hidden, kernel) if lazy else teacher)
    valid = method.valid(batch)
    np.testing.assert_array_equal(valid, [[0, 1, 1, 0, 0]])
    expected = (uld(student[0, 1], teacher[0, 2]) + uld(student[0, 2], teacher[0, 3])) / 2
    np.testing.assert_allclose(core.mean(method.apply({}, Output(student), said, batch), valid), expected, rtol=1e-5)


def test_uld_refuses_masks_of_another_length():
    batch = TEXT | {"teacher_valid": jnp.ones((1, 3))}
    with pytest.raises(UserError, match=r"shape of the teacher's predictions \(1, 6\), got \(1, 3\)"):
        ULD().apply({}, Output(jnp.zeros((1, 4, 5))), Output(jnp.zeros((1, 6, 5))), batch)


@pytest.mark.parametrize(
    "method",
    [
        ForwardKL(temperature=0.0),
        ReverseKL(chunk=-1),
        SymmetricKL(share=1.1),
        GKD(beta=-0.1),
        SkewKL(share=1.0),
        SkewKL(share=-0.1, reverse=True),
        TTM(gamma=0.0),
        TAID(share=1.5),
        TopK(k=0),
        ULD(temperature=-1.0),
        CrossEntropy(label_smoothing=1.0),
    ],
)
def test_invalid_fields_are_refused(method):
    with pytest.raises(UserError, match="makes no sense|must"):
        method.check()
