"""Losses of logits."""

import functools

import jax
import jax.numpy as jnp

from golden_tables import Row
from jaxdistill.losses import distance, divergence, topk
from jaxdistill.methods.adaptive_temperature import cwsm, flsw, temperatures
from jaxdistill.methods.cross_entropy import cross_entropy
from jaxdistill.methods.ctkd import curriculum, reverse
from jaxdistill.methods.ctkd import temperature as learned_temperature
from jaxdistill.methods.dist import dist
from jaxdistill.methods.dkd import dkd
from jaxdistill.methods.hard_label import hard_label
from jaxdistill.methods.kd import kd
from jaxdistill.methods.logit_regression import logit_regression
from jaxdistill.methods.logit_standardization import standardize
from jaxdistill.methods.mlkd import batch_relation, class_relation
from jaxdistill.methods.nkd import nkd


def task(x):
    return jnp.mean(cross_entropy(x["student_logits"], x["labels"], 0.0))


def reduced(values, classes, reduction):
    """torch's reductions of an elementwise loss, from its sums over classes: factors of the mean over predictions."""
    factor = {"batchmean": values.size / len(values), "mean": 1 / classes, "sum": values.size}[reduction]
    return factor * jnp.mean(values)


# kd_kl


def plain(x, temperature):
    return jnp.mean(kd(x["student_logits"], x["teacher_logits"], temperature))


def with_labels(x, temperature, alpha):
    return alpha * plain(x, temperature) + (1 - alpha) * task(x)


def bert_pkd(x, temperature, alpha):
    """`KLDivLoss()` averages over classes too: smaller by their number."""
    distill, nll = plain(x, temperature) / x["student_logits"].shape[-1], task(x)
    return {"loss": alpha * distill + (1 - alpha) * nll, "distill_term": distill, "nll_term": nll}


def mmrazor(x, temperature, reduction, loss_weight):
    """ "batchmean" divides by the batch alone, "mean" by the classes too, and "none" is one number for each class."""
    student, teacher = x["student_logits"], x["teacher_logits"]
    if reduction == "none":
        log_p, log_q = (divergence.log_probabilities(z / temperature) for z in (teacher, student))
        return loss_weight * temperature**2 * jnp.exp(log_p) * (log_p - log_q)
    return loss_weight * reduced(kd(student, teacher, temperature), student.shape[-1], reduction)


def torchdistill(x, temperature, alpha, beta, reduction):
    """Without labels' share (alpha None) it drops T^2: smaller by that factor. A defect, kept to be compared."""
    soft = reduced(kd(x["student_logits"], x["teacher_logits"], temperature), x["student_logits"].shape[-1], reduction)
    if not alpha:
        return soft / temperature**2
    labels = cross_entropy(x["student_logits"], x["labels"], 0.0)
    hard = jnp.sum(labels) if reduction == "sum" else jnp.mean(labels)
    return alpha * hard + (1 - alpha if beta is None else beta) * soft


# kd_soft_ce, logit_mse


def soft_target(x, temperature=None):
    """One temperature, or one for each prediction; no T^2."""
    temperature = x["temperature_array"][..., None] if temperature is None else temperature
    student, teacher = (x[name] / temperature for name in ("student_logits", "teacher_logits"))
    return jnp.mean(divergence.soft_cross_entropy(teacher, student))


def cls_kd(x, temperature, alpha):
    loss = alpha * temperature**2 * soft_target(x, temperature)
    return {"loss": loss, "hard_loss_weight": jnp.asarray(1 - alpha, loss.dtype)}


def logit_mse(x, temperature):
    """A mean over the classes too, without the half."""
    classes = x["student_logits"].shape[-1]
    return 2 / classes * jnp.mean(logit_regression(x["student_logits"], x["teacher_logits"], temperature))


# bv_distance


def per_example(function):
    """big_vision's value of each example, and their mean."""

    @functools.wraps(function)
    def both(x, kind, **settings):
        values = function(x["student"], x["teacher"], **settings)
        return {"loss": values, "loss_mean": jnp.mean(values)}

    return both


def squares(student, teacher):
    return 2 * logit_regression(student, teacher)


def euclidean(student, teacher):
    """Without the 1e-12 that it has in the root."""
    return distance.norm(student - teacher)


def euclidean_of_log_probabilities(student, teacher):
    return euclidean(*(divergence.log_probabilities(z) for z in (student, teacher)))


def clipped_entropy(p):
    return -jnp.sum(p * jnp.log(jnp.maximum(p, 1e-8)), -1)


def soft_minus_clipped_entropy(student, teacher, t):
    """Without the bound of 1e-8 on the probabilities in its entropy."""
    return kd(student, teacher, t)


def hard_minus_clipped_entropy(student, teacher, ls):
    """Smoothing over the others by `ls` is smoothing over all classes by more; the target's entropy is a constant."""
    classes = student.shape[-1]
    target = jnp.where(jnp.arange(classes) == 0, 1 - ls, ls / (classes - 1)).astype(student.dtype)
    return hard_label(student, teacher, ls * classes / (classes - 1)) - clipped_entropy(target)


def agree(student, teacher, k):
    """How many of the student's k likeliest classes are the teacher's likeliest."""
    same = topk.from_logits(student, k).ids == topk.from_logits(teacher, 1).ids
    return jnp.sum(same, -1).astype(student.dtype)


# logit_std_kd, logit_std_dkd, dkd, nkd


def standardized(x, **settings):
    return x | {name: standardize(x[name], **settings) for name in ("student_logits", "teacher_logits")}


def std_kd(x, temperature):
    return plain(standardized(x), temperature)


def std_kd_with_labels(x, temperature, alpha, eps):
    return alpha * task(x) + (1 - alpha) * plain(standardized(x, eps=eps), temperature)


def decoupled(x, temperature, alpha, beta):
    return jnp.mean(dkd(x["student_logits"], x["teacher_logits"], x["labels"], temperature, alpha, beta))


def std_dkd(x, temperature, alpha, beta):
    return decoupled(standardized(x), temperature, alpha, beta)


def mmrazor_dkd(x, temperature, alpha, beta, reduction, loss_weight):
    """Every reduction but "batchmean" is a sum."""
    factor = 1 if reduction == "batchmean" else len(x["labels"])
    return loss_weight * factor * decoupled(x, temperature, alpha, beta)


def normalized(x, temperature, gamma):
    return jnp.mean(nkd(x["student_logits"], x["teacher_logits"], x["labels"], temperature, gamma))


# dist


def correlated(x, beta, gamma, temperature=1.0, loss_weight=1.0, **convention):
    """Every prediction is a row; without a temperature it is 1."""
    student, teacher = (x[n].reshape(-1, x[n].shape[-1]) for n in ("student_logits", "teacher_logits"))
    inter, intra = dist(student, teacher, jnp.ones(len(student)), temperature, **convention)
    return loss_weight * temperature**2 * (beta * jnp.mean(inter) + gamma * intra)


# mlkd


def relation_of_batch(x, temperature):
    student, teacher = x["student_logits"], x["teacher_logits"]
    return jnp.mean(batch_relation(student, teacher, jnp.ones(len(student)), temperature))


def relation_of_classes(x, temperature):
    student, teacher = x["student_logits"], x["teacher_logits"]
    return jnp.mean(class_relation(student, teacher, jnp.ones(len(student)), temperature))


def mlkd_step(x, temperature, ce_weight, kd_weight, logit_stand=False):
    """A training step, in which masks only scale, and the strong view's KL at T = 2 and 6 is the weak view's."""
    weak, strong = (
        {"student_logits": x[f"student_logits_{view}"], "teacher_logits": x[f"teacher_logits_{view}"]}
        for view in ("weak", "strong")
    )
    p = jax.nn.softmax(weak["teacher_logits"])
    rows, columns = (jnp.mean((sure <= jnp.median(sure)).astype(p.dtype)) for sure in (jnp.max(p, -1), jnp.sum(p, 0)))

    def total(function, view, at):
        return sum(function(view, t) for t in at)

    every = (temperature, 3.0, 5.0, 2.0, 6.0)
    own, other = (standardized(view) if logit_stand else view for view in (weak, strong))
    soft = rows * total(plain, own, every) + total(plain, other, every[:3]) + total(plain, own, every[3:])
    terms = {
        "loss_ce": ce_weight * sum(task(view | {"labels": x["labels"]}) for view in (weak, strong)),
        "loss_kd": kd_weight * soft,
        "loss_cc": kd_weight * columns * total(relation_of_classes, weak, every),
        "loss_bc": kd_weight * rows * total(relation_of_batch, weak, every),
    }
    return terms | {"loss": sum(terms.values())}


# ctkd, adaptive_temperature


def global_temperature(x, t_start, t_end, grl_lambda):
    """The peer multiplies the gradient by its factor, and we by ours turned around."""
    found = learned_temperature(reverse(x["raw_temperature"], -grl_lambda), t_start, t_end)
    values = kd(x["student_logits"], x["teacher_logits"], found[0])
    return {"loss": jnp.mean(values), "temperature": found}


def cosine_decay(x, max_value, min_value, num_loops):
    return max_value + (min_value - max_value) * curriculum(x["epoch"] / num_loops, "cosine")


def linear_decay(x, max_value, min_value, num_loops):
    """Ours up to the epoch before the last, where it stays; it starts at 0 whatever `max_value` is."""
    epoch = jnp.minimum(x["epoch"], num_loops - 1)
    return (min_value - max_value) * curriculum(epoch / num_loops, "linear")


def textbrewer_flsw(x, base_temperature, beta, gamma, eps):
    weight = flsw(x["student_logits"], x["teacher_logits"], gamma, eps)
    return temperatures(weight, jnp.ones_like(weight), base_temperature, beta)


def textbrewer_cwsm(x, base_temperature, beta, eps):
    weight = cwsm(x["student_logits"], eps)
    return temperatures(weight, jnp.ones_like(weight), base_temperature, beta)


# dml


def pairs(x):
    """Each network's logits by its number, with those of the others, which it learns from and does not move."""
    names = sorted(name for name in x if name.startswith("logits_"))
    return {
        name.removeprefix("logits_"): (x[name], [jax.lax.stop_gradient(x[other]) for other in names if other != name])
        for name in names
    }


def mutual(x, lambda_kd):
    found = {
        f"loss_{n}": lambda_kd * jnp.mean(sum(kd(own, o, 1.0) for o in others)) for n, (own, others) in pairs(x).items()
    }
    return found | {"loss": sum(found.values())}


def mutual_tf(x, networks):
    """1e-8 in the ratio and in the log; the others are added up, where the paper averages."""

    def one(own, other):
        p, q = jax.nn.softmax(other), jax.nn.softmax(own)
        log_p, log_q = (divergence.log_probabilities(z) for z in (other, own))
        smoothed = jnp.log(1e-8 + p / (q + 1e-8)) - (log_p - log_q)
        return jnp.mean(kd(own, other, 1.0) + jnp.sum(p * smoothed, -1))

    found = {f"loss_{n}": sum(one(own, o) for o in others) for n, (own, others) in pairs(x).items()}
    return found | {"loss": sum(found.values())}


# tunix_logit


def tunix(x, temperature, alpha, distill_top_k):
    student, teacher, labels = x["student_logits"], x["teacher_logits"], x["labels_onehot"]
    where = None
    if distill_top_k:
        ids = topk.from_logits(teacher, distill_top_k).ids
        where = jnp.put_along_axis(jnp.zeros(teacher.shape, bool), ids, True, -1, inplace=False)
    kl = jnp.mean(divergence.kl(teacher / temperature, student / temperature, where))
    hard, other = (jnp.mean(cross_entropy(z, labels, 0.0)) for z in (student, teacher))
    soft = temperature**2 * kl
    loss = alpha * soft + (1 - alpha) * hard
    return {"loss": loss, "kl_div": kl, "soft_loss": soft, "hard_loss": hard, "teacher_loss": other}


TABLE = {
    ("kd_kl", "repdistiller"): Row(plain),
    ("kd_kl", "mdistiller"): Row(plain),
    ("kd_kl", "kdzoo_softtarget"): Row(plain),
    ("kd_kl", "attention_transfer_composite"): Row(with_labels),
    ("kd_kl", "bert_pkd_composite"): Row(bert_pkd),
    ("kd_kl", "mmrazor"): Row(mmrazor),
    ("kd_kl", "torchdistill"): Row(
        torchdistill, "drops T^2 and its weight without labels", lambda alpha, **_: not alpha
    ),
    ("kd_soft_ce", "textbrewer_kd_ce"): Row(soft_target),
    ("kd_soft_ce", "cls_kd"): Row(cls_kd),
    ("logit_mse", "kdzoo_logits"): Row(lambda x, temperature: logit_mse(x, 1.0)),
    ("logit_mse", "textbrewer_kd_mse"): Row(logit_mse),
    ("bv_distance", "l2"): Row(per_example(squares)),
    ("bv_distance", "euclidean"): Row(per_example(euclidean)),
    ("bv_distance", "logsoftmax_euclidean"): Row(per_example(euclidean_of_log_probabilities)),
    ("bv_distance", "kl"): Row(per_example(soft_minus_clipped_entropy)),
    ("bv_distance", "hard"): Row(per_example(hard_minus_clipped_entropy)),
    ("bv_distance", "agree"): Row(per_example(agree)),
    ("logit_std_kd", "official"): Row(std_kd),
    ("logit_std_kd", "torchdistill"): Row(std_kd_with_labels),
    ("logit_std_dkd", "official"): Row(std_dkd),
    ("dkd", "mdistiller"): Row(decoupled),
    ("dkd", "cls_kd"): Row(decoupled),
    ("dkd", "mmrazor"): Row(mmrazor_dkd),
    ("nkd", "cls_kd"): Row(normalized),
    ("dist", "dist_kd"): Row(correlated),
    ("dist", "image_classification_sota"): Row(correlated),
    ("dist", "mmrazor"): Row(correlated),
    ("dist", "torchdistill"): Row(functools.partial(correlated, clamp=True)),
    ("mlkd", "bc_loss"): Row(relation_of_batch),
    ("mlkd", "cc_loss"): Row(relation_of_classes),
    ("mlkd", "official_step"): Row(mlkd_step, "its masks only scale, and its strong view is in part the weak one"),
    ("mlkd", "logit_std_step"): Row(mlkd_step, "its masks only scale, and its strong view is in part the weak one"),
    ("ctkd", "official_global"): Row(global_temperature),
    ("ctkd", "official_CosineDecay"): Row(cosine_decay),
    ("ctkd", "official_LinearDecay"): Row(
        linear_decay, "starts at 0 in place of `max_value`", lambda max_value, **_: max_value != 0
    ),
    ("adaptive_temperature", "textbrewer_flsw"): Row(textbrewer_flsw),
    ("adaptive_temperature", "textbrewer_cwsm"): Row(textbrewer_cwsm),
    ("dml", "kdzoo"): Row(mutual),
    ("dml", "official_tf"): Row(mutual_tf, "1e-8 inside the ratio and the log, and a sum over the others"),
    ("tunix_logit", "tunix"): Row(
        tunix, "renormalises the student on the teacher's top k", lambda distill_top_k, **_: distill_top_k > 0
    ),
}
