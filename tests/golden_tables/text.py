"""Losses of text."""

import jax
import jax.numpy as jnp

from golden_tables import Row
from jaxdistill.core import Output
from jaxdistill.losses import attention, distance, divergence, token
from jaxdistill.methods.cross_entropy import cross_entropy
from jaxdistill.methods.distilbert import DistilBERT
from jaxdistill.methods.hidden_state import HiddenState
from jaxdistill.methods.kd import kd
from jaxdistill.methods.minilmv2 import relation_kl
from jaxdistill.methods.patient_kd import patient_kd
from jaxdistill.methods.text_gram import hidden_gram, token_gram
from jaxdistill.methods.tinybert import TinyBERT, prediction


def tokens(x, like):
    """The mask of tokens in the precision of `like`, `[batch, length, ...]`; all ones where the case has none."""
    mask = x["mask"] if "mask" in x else jnp.ones((like.shape[0], like.shape[-2]))
    return mask.astype(like.dtype)


def over(values, weights):
    return jnp.sum(values * weights) / jnp.sum(weights)


def each(loss):
    """The mean over tokens of a loss of states."""

    def function(x):
        left, target = x["student_hidden"], x["teacher_hidden"]
        return over(loss(left, target), tokens(x, left))

    return function


def distilbert(x, mlm, temperature, restrict_ce_to_mask, alpha_ce, alpha_mlm, alpha_clm, alpha_mse, alpha_cos):
    """The method itself, and two terms of the code that the paper does not use: next tokens and squared logits."""
    method = DistilBERT(temperature, alpha_ce, alpha_mlm, alpha_cos, restrict_ce_to_mask)
    is_token, labels = tokens(x, x["student_hidden"]), x["labels"]
    result = [Output(x[f"{side}_logits"], {"final": x[f"{side}_hidden"]}) for side in ("student", "teacher")]
    logits, target = (output.logits for output in result)
    masked = (labels >= 0).astype(is_token.dtype)
    chosen = masked if restrict_ce_to_mask else is_token
    following = over(cross_entropy(logits[:, :-1], labels[:, 1:], 0.0), masked[:, 1:]) if alpha_clm else 0.0
    square = over(jnp.sum((logits - target) ** 2, -1), chosen) if alpha_mse else 0.0
    batch = {"token_mask": is_token, "mask": jnp.ones(len(is_token)), "label": labels}
    values = method.apply({}, *result, batch)
    return {
        "loss": over(values, is_token) + alpha_clm * following + alpha_mse * square,
        "ce_term": over(kd(logits, target, temperature), chosen),
        "mlm_term": over(cross_entropy(logits, labels, 0.0), masked),
        "cos_term": over(token.cosine(x["student_hidden"], x["teacher_hidden"]), is_token),
    }


def pkd_official(x, normalized):
    """The mean over layers and hidden units, where the paper adds."""
    _, layers, width = x["student_hidden"].shape
    values = patient_kd(x["student_hidden"], x["teacher_hidden"], normalized)
    return jnp.mean(jnp.sum(values, -1)) / (layers * width)


def pkd_textbrewer(x):
    return jnp.mean(patient_kd(x["student_hidden"][:, 0], x["teacher_hidden"][:, 0]))


def tinybert(x, pred_distill):
    """The method itself, on taps; scores of -100 and less, which there stand for padding, are 0."""
    assert not pred_distill
    result = {}
    for side in ("student", "teacher"):
        taps = {}
        for name in (name for name in x if name.startswith(f"{side}_")):
            kind, number = name.removeprefix(f"{side}_").split("_")
            if kind == "attention":
                taps[f"block{number}/scores"] = jnp.where(x[name] <= -100, 0.0, x[name])
            else:
                taps["embed" if number == "0" else f"block{int(number) - 1}"] = x[name]
        result[side] = taps
    params = {"fit": {part: x[f"fit.{part}"] for part in ("kernel", "bias")}} if "fit.kernel" in x else {}
    batch = {"token_mask": jnp.ones(x["student_hidden_0"].shape[:2])}
    values = TinyBERT().apply({"params": params}, *(Output(None, result[side]) for side in result), batch)
    return jnp.mean(values)


def tinybert_prediction(x, pred_distill, temperature):
    """The mean over classes too: smaller by their number than the paper's."""
    assert pred_distill
    student, teacher = x["student_logits"], x["teacher_logits"]
    return jnp.mean(prediction(student, teacher, temperature)) / student.shape[-1]


def bloomberg(x, relations, relation_heads):
    """Their vectors are joined already: one head, which is split."""
    is_token = tokens(x, x["student_query"])
    vector = dict(enumerate(("query", "key", "value"), 1))
    total = 0.0
    for *pair, weight in relations:
        left, right = (tuple(x[f"{side}_{vector[i]}"][:, :, None] for i in pair) for side in ("student", "teacher"))
        total += weight * jnp.mean(relation_kl(left, right, is_token, relation_heads))
    return total


def attention_mse(heads):
    """The mean over all pairs of tokens; without a mask all scores of -0.001 and less are taken for padding."""

    def function(x):
        left, target = heads(x["student_attention"]), heads(x["teacher_attention"])
        is_token = tokens(x, left)
        floor = -float("inf") if "mask" in x else -1e-3
        rows = attention.squared(left, target, is_token, floor)
        return over(token.mean(rows, is_token), jnp.sum(is_token, -1) ** 2)

    return function


def attention_ce(heads):
    """The cross-entropy of rows whose target lost entries after the softmax: padding takes part of both."""

    def function(x):
        left, target = heads(x["student_attention"]), heads(x["teacher_attention"])
        is_token = tokens(x, left)
        stored = is_token[:, None, None, :] if "mask" in x else jnp.where(target <= -1e-3, 0.0, 1.0)
        rows = divergence.cross_entropy(stored * jax.nn.softmax(target), left)
        return over(jnp.mean(rows, 1), is_token)

    return function


def gram(loss, by_pairs):
    """Token Grams are averaged over all pairs of tokens, so that long examples weigh more."""

    def function(x):
        left, right = ([x[f"{side}_hidden_{i}"] for i in (1, 2)] for side in ("student", "teacher"))
        is_token = tokens(x, left[0])
        values = loss(left, right, is_token)
        return over(values, jnp.sum(is_token, -1) ** 2) if by_pairs else jnp.mean(values)

    return function


def distillkit(distance):
    """The method itself, divided by the number of pairs; their maps have no bias."""

    def function(x, layer_mapping, project):
        taps = {
            side: {f"block{name.rsplit('_', 1)[1]}": x[name] for name in x if name.startswith(f"{side}_hidden")}
            for side in ("student", "teacher")
        }
        named = [(f"block{left}", f"block{right}") for left, right in layer_mapping]
        params = {}
        for i, (left, right) in enumerate(named if project else []):
            kernel = x[f"projection{i}.kernel"]
            bias = x.get(f"projection{i}.bias", jnp.zeros(kernel.shape[1], kernel.dtype))
            params[left if left == right else f"{left}_{right}"] = {"kernel": kernel, "bias": bias}
        method = HiddenState(distance=distance, layers=",".join("=".join(pair) for pair in named))
        result = (Output(None, taps[side]) for side in ("student", "teacher"))
        values = method.apply({"params": params}, *result, {}) / len(named)
        return over(values, tokens(x, x["student_hidden_0"]))

    return function


def windows(x, shape):
    """Averages windows of the teacher along every axis: stride have // want, size have - (want - 1) stride."""
    for axis, (have, want) in enumerate(zip(x.shape, shape, strict=True)):
        stride = have // want
        size = have - (want - 1) * stride
        x = jnp.stack([jnp.mean(x.take(i * stride + jnp.arange(size), axis), axis) for i in range(want)], axis)
    return x


def tunix(x, alpha):
    left = x["student_attention"]
    feature = jnp.mean(1 - distance.cosine(left, windows(x["teacher_attention"], left.shape)))
    task = jnp.mean(cross_entropy(x["student_logits"], x["labels_onehot"], 0.0))
    return alpha * feature + (1 - alpha) * task


def heads_apart(scores):
    return scores


def heads_added(scores):
    return jnp.sum(scores, 1, keepdims=True)


def heads_averaged(scores):
    return jnp.mean(scores, 1, keepdims=True)


AFTER = "masks attention after the softmax, where padding has already taken probability, or drops negative scores"

TABLE = {
    ("distilbert", "official_step"): Row(distilbert),
    ("pkd_patient", "official"): Row(pkd_official),
    ("pkd_patient", "textbrewer"): Row(pkd_textbrewer),
    ("tinybert_intermediate", "official"): Row(tinybert, leaves=("attention_loss", "hidden_loss")),
    ("tinybert_pred", "official"): Row(tinybert_prediction),
    ("minilm", "bloomberg_v2"): Row(bloomberg),
    ("attention_match", "textbrewer_att_mse_loss"): Row(attention_mse(heads_apart)),
    ("attention_match", "textbrewer_att_mse_sum_loss"): Row(attention_mse(heads_added)),
    ("attention_match", "textbrewer_att_ce_loss"): Row(attention_ce(heads_apart), AFTER),
    ("attention_match", "textbrewer_att_ce_mean_loss"): Row(attention_ce(heads_averaged), AFTER),
    ("cosine_embedding", "textbrewer"): Row(each(token.cosine)),
    ("hidden_mse", "textbrewer"): Row(each(token.squared)),
    ("hidden_gram", "textbrewer"): Row(gram(hidden_gram, by_pairs=False)),
    ("hidden_token_gram", "textbrewer"): Row(gram(token_gram, by_pairs=True)),
    ("hidden_state_mse", "distillkit"): Row(distillkit("mse")),
    ("hidden_state_cosine", "distillkit"): Row(distillkit("cosine")),
    ("tunix_attention_transfer", "tunix"): Row(tunix, "averages layers and heads of the teacher by windows"),
}
