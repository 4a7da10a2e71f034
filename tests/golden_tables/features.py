"""Losses of features."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from golden_tables import Row
from jaxdistill.losses import distance, spatial
from jaxdistill.methods import ab, at, fitnet, fsp, ft, nst, vid
from jaxdistill.modules import heads


class Compact(nn.Module):
    """A function that makes params, as a module that can be given them."""

    function: Callable

    @nn.compact
    def __call__(self, *arguments):
        return self.function(*arguments)


def applied(function, params, stats, *arguments):
    variables = {"params": params} | ({"batch_stats": stats} if stats else {})
    return Compact(function).apply(variables, *arguments, mutable=["batch_stats"])[0]


def normalisation(x, name):
    """The params and the statistics of one of a case's batch normalisations."""
    return {part: x[f"{name}.{part}"] for part in ("scale", "bias")}, {p: x[f"{name}.{p}"] for p in ("mean", "var")}


def convolution(x, name):
    return {"kernel": x[f"{name}.kernel"], "bias": x[f"{name}.bias"]}


def pairs(x):
    count = sum(name.startswith("teacher_") for name in x)
    return [(x[f"student_{i}"], x[f"teacher_{i}"]) for i in range(count)]


def added(values):
    """The sum of the layers' losses, and each of them."""
    return {"loss": sum(values[1:], values[0])} | {f"loss_{i}": value for i, value in enumerate(values)}


def hint(x):
    return jnp.mean(fitnet.fitnet(x["student_0"], x["teacher_0"]))


def hint_mmrazor(x, normalize, mult, div_element, dist, loss_weight=1.0):
    """A sum over elements and mean over the batch; with `dist` the root of the sum over the whole batch."""
    student, teacher = (y.reshape(y.shape[0], -1) for y in (x["student_0"], x["teacher_0"]))
    if normalize:
        student, teacher = mult * distance.normalize(student), mult * distance.normalize(teacher)
    mean, (batch, elements) = jnp.mean(fitnet.fitnet(student, teacher)), student.shape
    if dist:
        return loss_weight * jnp.sqrt(batch * elements * mean)
    return loss_weight * mean * (1 if div_element else elements)


def hint_regressed(x, mode, use_relu, bn_eps):
    student, teacher = x["student_0"], x["teacher_0"]
    conv, (params, stats) = convolution(x, "conv"), normalisation(x, "bn")
    if 2 * student.shape[1] == teacher.shape[1]:
        conv["kernel"] = conv["kernel"][::-1, ::-1]  # PyTorch's transposed kernel does not flip, Flax's does

    def adapt(student):
        mask = jnp.ones(student.shape[0])
        return fitnet.regress(student, teacher, "r", mask, norm=True, relu=use_relu, train=mode == "train")

    adapted = applied(adapt, {"r": conv, "r_norm": params}, {"r_norm": stats}, student)
    return {"loss": jnp.mean(fitnet.fitnet(adapted, teacher)), "adapted": adapted}


def signed(features, p):
    """The map of attention of peers, which raise to p without the absolute value."""
    if p % 2 == 0:
        return at.attention(features, p)
    return distance.normalize(jnp.mean(features**p, -1).reshape(features.shape[0], -1))


def attention(x, p=2, loss_weight=1.0):
    def one(student, teacher):
        if p % 2 == 0:
            return jnp.mean(at.attention_transfer(student, teacher, p))
        student, teacher = spatial.to_smaller(student, teacher)
        return jnp.mean((signed(student, p) - signed(teacher, p)) ** 2)

    return added([loss_weight * one(*pair) for pair in pairs(x)])


def attention_kdzoo(x, p):
    """1e-6 is added to the norm of the sum over channels, which is the mean's times their number."""
    left, right = (at.attention(y, p, 1e-6 / y.shape[-1]) for y in (x["student_0"], x["teacher_0"]))
    return jnp.mean((left - right) ** 2)


def attention_torchdistill(x, mode, weights=None):
    actual = [jnp.mean(at.attention_transfer(*pair, 2.0, squared=mode == "code")) for pair in pairs(x)]
    return sum(weight * value for weight, value in zip(weights or [1] * len(actual), actual, strict=True))


def flows(x):
    maps = list(zip(*pairs(x), strict=True))
    steps = range(len(maps[0]) - 1)
    return added([jnp.mean(fsp.fsp(*(side[i : i + 2] for side in maps), "average")) for i in steps])


def flows_torchdistill(x, weights=None):
    maps, total = list(zip(*pairs(x), strict=True)), 0.0
    for index, weight in enumerate(weights or [1] * (len(maps[0]) - 1)):
        left, right = (fsp.flow(side[index], side[index + 1], "max") for side in maps)
        norms = distance.norm(left - right, axis=1)
        total = total + weight * jnp.sum(norms) / norms.shape[0]
    return total


def selectivity(x):
    return added([jnp.mean(nst.nst(*pair)) for pair in pairs(x)])


def factors(x, loss_weight=1.0):
    return loss_weight * jnp.mean(ft.ft(x["student_0"], x["teacher_0"], 1.0))


def factors_torchdistill(x, p, reduction):
    """For p = 1 over all elements, else the norm of the difference of each example."""
    value = ft.ft(x["student_0"], x["teacher_0"], p)
    batch, elements = value.size, x["teacher_0"][0].size
    if p == 1:
        return jnp.mean(value) * (1 if reduction == "mean" else batch * elements)
    norms = (elements * value) ** (1 / p)
    return jnp.mean(norms) if reduction == "mean" else jnp.sum(norms)


def factors_repdistiller(x, p1, p2):
    if p1 % 2 == 0:
        return jnp.mean(ft.ft(x["student_0"], x["teacher_0"], p2, maps=p1))
    student, teacher = spatial.to_smaller(x["student_0"], x["teacher_0"])
    difference = signed(student, p1) - signed(teacher, p1)
    return jnp.mean(jnp.abs(difference) if p2 == 1 else difference**p2)


def factors_trained(x, k, paraphraser_bn, translator_bn, p1, p2, leaky_slope, bn_eps):
    """Our translator and our paraphraser with the case's kernels, compared as RepDistiller does."""
    student, teacher = x["student_0"], x["teacher_0"]
    head = heads.Paraphraser(fraction=k, norm=paraphraser_bn)
    shapes = jax.eval_shape(head.init, jax.random.key(0), teacher)
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), shapes)
    params, stats = {}, {}
    for i in range(3):
        variables["params"][f"encoder_conv{i}"] = convolution(x, f"paraphraser.conv{i}")
        params[f"f_conv{i}"] = convolution(x, f"translator.conv{i}")
        if paraphraser_bn:
            learned, statistics = normalisation(x, f"paraphraser.bn{i}")
            variables["params"][f"encoder_norm{i}"] = learned
            variables["batch_stats"][f"encoder_norm{i}"] = statistics
        if translator_bn:
            params[f"f_norm{i}"], stats[f"f_norm{i}"] = normalisation(x, f"translator.bn{i}")
    factor = head.apply(variables, teacher).tap("factor")

    def translate(student):
        return ft.translate(student, factor.shape[-1], "f", jnp.ones(student.shape[0]), translator_bn)

    translated = applied(translate, params, stats, student)
    loss = factors_repdistiller({"student_0": translated, "teacher_0": factor}, p1, p2)
    return {"loss": loss, "factor_student": translated, "factor_teacher": factor}


def boundaries(x, margin):
    actual = [jnp.mean(ab.ab(*pair, margin)) for pair in pairs(x)]
    return added([weight * value for weight, value in zip(ab.layer_weights(len(actual)), actual, strict=True)])


def boundaries_mmrazor(x, margin, loss_weight=1.0):
    return loss_weight * boundaries(x, margin)["loss"]


def boundaries_kdzoo(x, margin):
    return jnp.mean(ab.ab(x["student_0"], x["teacher_0"], margin)) / x["student_0"][0].size


def boundaries_torchdistill(x, margin, reduction, weights=None):
    actual = [jnp.mean(ab.ab(*pair, margin)) for pair in pairs(x)]
    factor = 1 if reduction == "mean" else x["student_0"].shape[0]
    return factor * sum(weight * value for weight, value in zip(weights or [1] * len(actual), actual, strict=True))


def information(x, mid_channels, init_pred_var, eps):
    student, teacher = spatial.to_smaller(x["student_0"], x["teacher_0"])
    params = {f"r_conv{i}": {"kernel": x[f"conv{i}.kernel"][0, 0]} for i in range(3)}

    def predict(student):
        return vid.predict(student, mid_channels, teacher.shape[-1], "r")

    variance = vid.variance_of(x["log_scale"], eps, teacher.ndim)
    return jnp.mean(vid.vid(applied(predict, params, {}, student), teacher, variance))


def likelihood(x):
    return jnp.mean(vid.vid(x["pred_mean"], x["teacher_0"], x["pred_var"]))


NO_ABSOLUTE = "raises signed features to an odd power"


def odd(p=2, p1=2, **_):
    return p % 2 != 0 or p1 % 2 != 0


TABLE = {
    ("hint", "repdistiller_mse"): Row(hint),
    ("hint", "repdistiller_convreg"): Row(hint_regressed),
    ("hint", "mmrazor_l2"): Row(hint_mmrazor),
    ("at", "official"): Row(attention, NO_ABSOLUTE, odd),
    ("at", "repdistiller"): Row(attention, NO_ABSOLUTE, odd),
    ("at", "mdistiller"): Row(attention, NO_ABSOLUTE, odd),
    ("at", "mmrazor"): Row(attention, NO_ABSOLUTE, odd),
    ("at", "kdzoo"): Row(attention_kdzoo),
    ("at", "torchdistill"): Row(attention_torchdistill),
    ("fsp", "repdistiller"): Row(flows),
    ("fsp", "kdzoo"): Row(flows),
    ("fsp", "torchdistill"): Row(flows_torchdistill, "norms over one layer's channels, not squared, not averaged"),
    ("nst", "repdistiller"): Row(selectivity),
    ("nst", "mdistiller"): Row(selectivity),
    ("nst", "kdzoo"): Row(selectivity),
    ("ft", "kdzoo"): Row(factors),
    ("ft", "mmrazor"): Row(factors),
    ("ft", "torchdistill"): Row(factors_torchdistill),
    ("ft", "repdistiller"): Row(factors_repdistiller, NO_ABSOLUTE, odd),
    ("ft", "repdistiller_full"): Row(factors_trained, NO_ABSOLUTE, odd),
    ("ab", "repdistiller"): Row(boundaries),
    ("ab", "mmrazor"): Row(boundaries_mmrazor),
    ("ab", "kdzoo"): Row(boundaries_kdzoo),
    ("ab", "torchdistill"): Row(boundaries_torchdistill),
    ("vid", "repdistiller"): Row(information),
    ("vid", "mdistiller"): Row(information),
    ("vid", "torchdistill_core"): Row(likelihood),
}
