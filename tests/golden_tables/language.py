"""Losses of language models over whole vocabularies, and across two of them."""

import jax
import jax.numpy as jnp
import numpy as np

from golden_tables import Row
from jaxdistill.losses import divergence
from jaxdistill.methods.cross_entropy import cross_entropy
from jaxdistill.methods.forward_kl import forward_kl
from jaxdistill.methods.gkd import gkd
from jaxdistill.methods.reverse_kl import reverse_kl
from jaxdistill.methods.skew_kl import skew_kl
from jaxdistill.methods.symmetric_kl import symmetric_kl
from jaxdistill.methods.uld import partners, sorted_distance, uld
from jaxdistill.modules.next_token import next_token

IGNORED = -100


def counts(x):
    """Which tokens count, `[batch, length]`, in the student's precision: all where the case does not say."""
    like = x["student_logits"]
    if "mask" in x:
        return x["mask"].astype(like.dtype)
    return (x["labels"] != IGNORED).astype(like.dtype) if "labels" in x else jnp.ones(like.shape[:-1], like.dtype)


def over(values, weights):
    return jnp.sum(values * weights) / jnp.maximum(jnp.sum(weights), 1)


def entropy(logits):
    return divergence.soft_cross_entropy(logits, logits)


def distillm(loss, cross=lambda lam: 0.0):
    """The mean over tokens; `cross` is how much of the teacher's entropy their value has beside the divergence."""

    def function(x, lam=None):
        student, teacher = x["student_logits"], x["teacher_logits"]
        return over(loss(student, teacher, lam) + cross(lam) * entropy(teacher), counts(x))

    return function


def dskd(loss):
    """The sum over tokens, without T^2; the teacher may have a temperature of its own beside the common one."""

    def function(x, temperature, teacher_temperature, use_teacher_temperature, **settings):
        teacher = x["teacher_logits"] / (teacher_temperature if use_teacher_temperature else 1)
        values = loss(x["student_logits"], teacher, temperature, **settings) / temperature**2
        return jnp.sum(values * counts(x))

    return function


def dskd_js(student, teacher, temperature):
    """Without the 1e-9 that it has inside each logarithm."""
    return gkd(student, teacher, 0.5, temperature)


def reduced(values, x, reduction, num_items_in_batch=None):
    """TRL's: without labels "batchmean" divides by the examples, not by their tokens."""
    weights = counts(x)
    total = jnp.sum(values * weights)
    tokens = jnp.maximum(jnp.sum(weights), 1)
    if num_items_in_batch is not None:
        return total / num_items_in_batch
    examples = x["student_logits"].shape[0]
    per = {
        "sum": 1,
        "mean": tokens * x["student_logits"].shape[-1],
        "batchmean": tokens if "labels" in x else examples,
    }
    return total / per[reduction]


def trl_gkd(x, beta, temperature, reduction, num_items_in_batch):
    """Beta 0 and 1 are the limits of the normalised form there; T^2 is left out."""
    ends = beta in (0, 1)
    values = gkd(x["student_logits"], x["teacher_logits"], beta, temperature, normalize_beta=ends) / temperature**2
    return reduced(values, x, reduction, num_items_in_batch)


def distillkit(loss):
    def function(x, temperature):
        return over(loss(x["student_logits"], x["teacher_logits"], temperature), counts(x))

    return function


def answer(labels, skip_last=False, earlier=False):
    """Where an answer's tokens are, `[batch, length]`: their own places, or those that predict them, one earlier."""
    there = labels != IGNORED
    if skip_last:
        rest = jnp.concatenate([there[:, 1:], jnp.zeros_like(there[:, :1])], 1)
        there = there & rest
    return jnp.concatenate([there[:, 1:], jnp.zeros_like(there[:, :1])], 1) if earlier else there


def paired(own, other, student, teacher):
    """Ours between partners: the values and where they count, `[batch, length]`."""
    place, both = partners(own, other)
    moved = jnp.take_along_axis(teacher, place[:, :, None], 1)
    return uld(student, moved), both.astype(student.dtype)


def by_example(values, weights):
    """The mean over examples of the means over their tokens; one without tokens counts as 0."""
    return jnp.mean(jnp.sum(values * weights, 1) / jnp.maximum(jnp.sum(weights, 1), 1))


def following(x):
    """The usual cross-entropy with the next label."""
    logits, labels = x["student_logits"], x["student_labels"]
    label, valid = next_token(labels, jnp.ones(labels.shape[0]), answer_mask=labels != IGNORED)
    return over(cross_entropy(logits, label, 0.0), valid.astype(logits.dtype))


def llm_recipes(
    x, ce_weight, distill_weight, student_temperature, teacher_temperature, skip_student_eos, skip_teacher_eos
):
    own = answer(x["student_labels"], skip_student_eos, earlier=True)
    other = answer(x["teacher_labels"], skip_teacher_eos, earlier=True)
    student, teacher = x["student_logits"] / student_temperature, x["teacher_logits"] / teacher_temperature
    ce = ce_weight * following(x)
    distilled = distill_weight * by_example(*paired(own, other, student, teacher))
    return {"loss": ce + distilled, "ce_term": ce, "distill_term": distilled}


def uld_dskd(x):
    """The labels are shifted already, so that places count as they are; the sum over tokens."""
    own, other = (answer(x[f"{who}_labels"]) for who in ("student", "teacher"))
    values, weights = paired(own, other, x["student_logits"], x["teacher_logits"])
    return jnp.sum(values * weights)


def trl_gold(x, ce_weight, distill_weight, skip_student_eos, skip_teacher_eos, extended, merge, hybrid, **settings):
    """Example by example, as merging and vocabularies that meet in part ask for; else ours between partners."""
    earlier = merge == "bayesian"
    own = answer(x["student_labels"], skip_student_eos, earlier)
    other = answer(x["teacher_labels"], skip_teacher_eos, earlier)
    student = x["student_logits"] / settings["student_temperature"]
    teacher = x["teacher_logits"] / settings["teacher_temperature"]
    if extended or hybrid:
        pairs = [
            _merged(x, i, (own[i], other[i]), (student[i], teacher[i]), extended, earlier) for i in range(own.shape[0])
        ]
        distance = _hybrid(**settings) if hybrid else lambda p, q: jnp.mean(sorted_distance(p, q))
        distilled = sum(distance(p, q) for p, q in pairs) / own.shape[0]
    else:
        distilled = by_example(*paired(own, other, student, teacher))
    return distill_weight * distilled + (ce_weight * following(x) if ce_weight > 0 else 0.0)


def _merged(x, example, there, logits, extended, earlier):
    """The distributions of one example that are to be compared, `[positions, vocabulary]` each."""
    found = []
    places = [np.flatnonzero(np.asarray(mask)) for mask in there]
    probabilities = [jax.nn.softmax(z[p]) for z, p in zip(logits, places, strict=True)]
    if not extended:
        count = min(map(len, places))
        return [p[:count] for p in probabilities]
    tokens = [p + earlier for p in places]
    names = ("student", "teacher")
    ends = [np.asarray(x[f"{n}_byte_offsets"])[example, t, 1] for n, t in zip(names, tokens, strict=True)]
    groups = [pair for pair in zip(*_groups(*ends), strict=True) if all(len(group) for group in pair)]
    for side, (name, token) in enumerate(zip(names, tokens, strict=True)):
        ids, own = x[f"{name}_input_ids"][example, token], probabilities[side]
        rows = []
        for group in (pair[side] for pair in groups):
            whole, others = (group[-1], group[:-1]) if earlier else (group[0], group[1:])
            rows.append(own[whole] * jnp.prod(own[np.array(others, int), ids[np.array(others, int)]]))
        found.append(jnp.stack(rows))
    return found


def _groups(own, other):
    """Splits the tokens of both wherever both have a boundary at the same byte; what is left over is one group."""
    groups, begins = ([], []), [0, 0]
    at, lengths = [0, 0], (len(own), len(other))
    while at[0] < lengths[0] and at[1] < lengths[1]:
        end = own[at[0]], other[at[1]]
        at = [at[0] + (end[0] <= end[1]), at[1] + (end[1] <= end[0])]
        if end[0] == end[1]:
            for side in (0, 1):
                groups[side].append(list(range(begins[side], at[side])))
            begins = list(at)
    if at[0] < lengths[0] or at[1] < lengths[1]:
        for side in (0, 1):
            groups[side].append(list(range(begins[side], lengths[side])))
    return groups


def _hybrid(beta, student_vocab, teacher_vocab, shift, matched_weight, unmatched_weight, **_):
    """Tokens of one spelling (student id = teacher id + shift) by terms of a JSD that is not normalised."""
    shared = [t for t in range(teacher_vocab) if 0 <= t + shift < student_vocab]
    matched = np.array(shared, int), np.array(shared, int) + shift
    alone = np.setdiff1d(np.arange(teacher_vocab), matched[0]), np.setdiff1d(np.arange(student_vocab), matched[1])
    weight = len(shared) / max(1, teacher_vocab) if matched_weight is None else matched_weight
    rest = 1 - weight if matched_weight is None else unmatched_weight

    def distance(student, teacher):
        q, p = student[:, matched[1]], teacher[:, matched[0]]
        m = beta * p + (1 - beta) * q
        terms = {0: p * jnp.log(p / q), 1: q * jnp.log(q / p)}
        value = terms.get(beta, beta * p * jnp.log(p / m) + (1 - beta) * q * jnp.log(q / m))
        total = weight * jnp.sum(value) / student.shape[0]
        if all(map(len, alone)):
            total += rest * jnp.mean(sorted_distance(student[:, alone[1]], teacher[:, alone[0]]))
        return total

    return distance


TABLE = {
    ("forward_kl", "distillm"): Row(distillm(lambda s, t, lam: forward_kl(s, t, 1.0), lambda lam: 1.0)),
    ("forward_kl", "dskd"): Row(dskd(forward_kl)),
    ("reverse_kl", "distillm"): Row(distillm(lambda s, t, lam: reverse_kl(s, t, 1.0))),
    ("reverse_kl", "dskd"): Row(dskd(reverse_kl)),
    ("symmetric_kl", "distillm"): Row(distillm(lambda s, t, lam: symmetric_kl(s, t, lam, 1.0), lambda lam: 1 - lam)),
    ("skew_kl", "distillm"): Row(distillm(lambda s, t, lam: skew_kl(s, t, lam, 1.0), lambda lam: 1.0)),
    ("skew_kl", "dskd"): Row(dskd(lambda s, t, temperature, lam: skew_kl(s, t, lam, temperature))),
    ("skew_reverse_kl", "distillm"): Row(distillm(lambda s, t, lam: skew_kl(t, s, lam, 1.0))),
    ("skew_reverse_kl", "dskd"): Row(dskd(lambda s, t, temperature, lam: skew_kl(t, s, lam, temperature))),
    ("js_distance", "distillm"): Row(distillm(lambda s, t, lam: gkd(s, t, 1 - lam, 1.0))),
    ("js_distance", "dskd"): Row(dskd(dskd_js)),
    ("gkd_jsd", "trl_gkd"): Row(trl_gkd),
    ("dense_token_kl", "distillkit"): Row(distillkit(forward_kl)),
    ("dense_token_jsd", "distillkit"): Row(distillkit(lambda s, t, temperature: gkd(s, t, 0.5, temperature))),
    ("uld", "llm_recipes"): Row(llm_recipes),
    ("uld", "dskd"): Row(uld_dskd),
    ("uld", "trl_gold"): Row(
        trl_gold,
        "merges tokens by bytes, or compares tokens of one spelling by a JSD that is not normalised",
        lambda extended, hybrid, **_: extended or hybrid,
    ),
}
