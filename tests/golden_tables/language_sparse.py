"""Losses of language models where the teacher says only its likeliest tokens."""

import jax
import jax.numpy as jnp

from golden_tables import Row
from golden_tables.language import counts, over, reduced
from jaxdistill.core import TopK
from jaxdistill.losses import mixture, ranking, topk
from jaxdistill.methods.forward_kl import forward_kl
from jaxdistill.methods.gkd import gkd
from jaxdistill.methods.reverse_kl import reverse_kl
from jaxdistill.methods.top_k import top_k


def divergence(student, teacher, beta):
    """TRL's of two distributions: the KLs at beta 0 and 1, else GKD's."""
    return gkd(student, teacher, beta, 1.0, normalize_beta=beta in (0, 1))


def renormalised(x, ids, beta):
    own, other = (jnp.take_along_axis(x[f"{who}_logits"], ids, -1) for who in ("student", "teacher"))
    return divergence(own, other, beta)


def bucketed(logits, member):
    """Logits of the classes that are members, and of all the others together as one class more."""
    rest = jax.nn.logsumexp(jnp.where(member, -jnp.inf, logits), -1, keepdims=True)
    return jnp.concatenate([jnp.where(member, logits, -jnp.inf), rest], -1)


def trl_iw_opd(x, beta, temperature, reduction, top_k, add_tail):
    """The support is the teacher's top K at beta 0, the student's at 1, and both together between."""
    x = x | {name: x[name] / temperature for name in ("student_logits", "teacher_logits")}
    student, teacher = x["student_logits"], x["teacher_logits"]
    ids = [jax.lax.top_k(logits, top_k)[1] for logits in (teacher, student)]
    used = {0: ids[:1], 1: ids[1:]}.get(beta, ids)
    member = sum(jax.nn.one_hot(i, student.shape[-1]).sum(-2) for i in used) > 0
    if not add_tail:
        inside = (jnp.where(member, logits, -jnp.inf) for logits in (student, teacher))
        values = divergence(*inside, beta)
    elif beta == 0:
        values = topk.kl(topk.from_ids(teacher, ids[0]), student)
    elif beta == 1:
        values = topk.kl(topk.from_ids(student, ids[1]), teacher)
    else:
        values = mixture.jensen_shannon(bucketed(teacher, member), bucketed(student, member), beta)
    return reduced(values, x, reduction)


def trl_sdpo(x, beta, top_k, add_tail):
    """The support is the student's top K whatever beta is; one value per token."""
    student, teacher = x["student_logits"], x["teacher_logits"]
    if top_k is None:
        return {0: forward_kl, 1: reverse_kl}.get(beta, lambda s, t, _: gkd(s, t, beta, 1.0))(student, teacher, 1.0)
    ids = jax.lax.top_k(student, top_k)[1]
    if not add_tail:
        return renormalised(x, ids, beta)
    return topk.jensen_shannon(topk.from_ids(teacher, ids), student, beta, normalize=beta in (0, 1))


def sparse(loss):
    """T^2 and the mean over tokens; `said` is what they take the teacher to say."""

    def function(x, temperature, num_items_in_batch, chunk_length, **how):
        values = temperature**2 * loss(said(x, temperature, **how), x["student_logits"] / temperature)
        weights = counts(x)
        return over(values, weights) if num_items_in_batch is None else jnp.sum(values * weights) / num_items_in_batch

    return function


def said(x, temperature, generation_temperature, missing, log_values):
    """A teacher whose likeliest tokens are all there is ("zero"), or whose rest is tempered as if it were one token."""
    classes = x["student_logits"].shape[-1]
    values, ids, power = x["target_values"], x["target_ids"], generation_temperature / temperature
    if missing == "zero" or not log_values:
        values = jax.nn.log_softmax(power * values)
        return TopK(values, ids, jnp.full(values.shape[:-1], -jnp.inf, values.dtype), classes)
    rest = jnp.log(jnp.clip(1 - jnp.sum(jnp.exp(values), -1), 1e-30, 1))
    every = jax.nn.log_softmax(power * jnp.concatenate([values, rest[..., None]], -1))
    return TopK(every[..., :-1], ids, every[..., -1], classes)


def biased(temperature, generation_temperature, missing, **_):
    return missing == "zero" or temperature != generation_temperature


def pairs(scores, losses):
    """The mean over the pairs of all tokens at once."""

    def function(x, margin=0.0):
        mine = jnp.take_along_axis(scores(x["student_logits"]), x["target_ids"], -1)
        theirs = jnp.exp(x["target_values"])
        ordered = ranking.order(theirs) & (counts(x) > 0)[..., None, None]
        return over(losses(mine, ranking.gaps(theirs) if margin is None else margin), ordered.astype(mine.dtype))

    return function


SHARED = "renormalises both sides on the K classes, so that what a student puts elsewhere is not seen"
REST = "renormalises the teacher alone on its K classes, or tempers its rest as if that were one token"

TABLE = {
    ("gkd_jsd_topk", "trl_iw_opd"): Row(trl_iw_opd, SHARED, lambda add_tail, **_: not add_tail),
    ("gkd_jsd_topk", "trl_sdpo"): Row(trl_sdpo, SHARED, lambda top_k, add_tail, **_: top_k and not add_tail),
    ("sparse_kl", "distillkit"): Row(sparse(lambda t, s: top_k(s, t, 0)), REST, biased),
    ("sparse_jsd", "distillkit"): Row(sparse(lambda t, s: topk.jensen_shannon(t, s, 0.5)), REST, biased),
    ("sparse_hinge", "distillkit"): Row(pairs(jax.nn.softmax, ranking.hinge)),
    ("sparse_logistic_ranking", "distillkit"): Row(pairs(lambda z: z, lambda z, _: ranking.logistic(z))),
}
