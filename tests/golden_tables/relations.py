"""Losses of relations."""

import flax.linen as nn
import jax.numpy as jnp

from golden_tables import Row
from jaxdistill.losses import contrast, distance, relation
from jaxdistill.methods import cc, crd, kdsvd, pkt, rkd, sp


def pairs(x):
    """The student's and the teacher's layers, and a mask that counts everybody."""
    count = sum(name.startswith("teacher_") for name in x)
    return [(x[f"student_{i}"], x[f"teacher_{i}"]) for i in range(count)], jnp.ones(x["teacher_0"].shape[0])


def everybody(x):
    return x["student"], x["teacher"], jnp.ones(x["teacher"].shape[0])


def similarity(x):
    layers, mask = pairs(x)
    actual = [jnp.mean(sp.sp(*pair, mask)) for pair in layers]
    return {"loss": sum(actual[1:], actual[0])} | {f"loss_{i}": value for i, value in enumerate(actual)}


def similarity_torchdistill(x, reduction):
    """Rows divided by their L1 norms, which torch keeps from below 1e-12."""
    layers, mask = pairs(x)

    def matrix(y):
        products = relation.gram(relation.rows(y, mask))
        return products / jnp.maximum(jnp.sum(jnp.abs(products), 1, keepdims=True), 1e-12)

    actual = [jnp.sum(relation.row_means((matrix(left) - matrix(right)) ** 2, mask)) for left, right in layers]
    return sum(actual) * (1 / mask.size if reduction == "batchmean" else mask.size)


def congruence(x, gamma, max_p):
    return jnp.mean(cc.cc(*everybody(x), "gaussian", gamma, max_p))


def congruence_torchdistill(x, kernel, reduction, gamma=0.4, max_p=2):
    """The norm of the difference, over B^2, of kernels of embeddings that are not normalised."""
    student, teacher, mask = everybody(x)
    left, right = (cc.correlations(y, mask, kernel, gamma, max_p, normalize=False) for y in (student, teacher))
    return distance.norm(left - right, axis=(0, 1)) / (mask.size**2 if reduction == "batchmean" else 1)


def neighbours(x):
    """Nothing of ours: the mean over neighbours in the batch of the products of what each is off by."""
    off = jnp.abs(x["student"] - x["teacher"])
    return jnp.mean(jnp.sum(off[:-1] * off[1:], 1))


def neighbours_embedded(x, dim):
    def embedded(side_name, name):
        params = {part: x[f"{name}.{part}"] for part in ("kernel", "bias")}
        return nn.Dense(dim).apply({"params": params}, x[side_name])

    return neighbours({"student": embedded("student", "embed_s"), "teacher": embedded("teacher", "embed_t")})


def distances_and_angles(x, w_d, w_a, squared=False, reduction="mean", with_l2_norm=False):
    student, teacher, mask = everybody(x)
    if with_l2_norm:
        student, teacher = distance.normalize(student), distance.normalize(teacher)
    near = jnp.mean(rkd.distance(student, teacher, mask, squared))
    angle = jnp.mean(rkd.angle(student, teacher, mask))
    if reduction == "sum":
        near, angle = near * mask.size**2, angle * mask.size**3
    return {"loss": w_d * near + w_a * angle, "distance": near, "angle": angle}


def transfer(x, eps=1e-7):
    return jnp.mean(pkt.pkt(*everybody(x), eps))


def singular(space):
    def function(x, k):
        layers, _ = pairs(x)
        actual = {"loss": jnp.mean(kdsvd.kdsvd(*zip(*layers, strict=True), k, space))}
        for index, maps in enumerate(layers):
            values = kdsvd.directions(*(kdsvd.matrix(y, space) for y in maps), k)[2]
            actual[f"teacher_singular_{index}"] = values
        return actual

    return function


def contrastive(x, feat_dim, nce_k, n_data, nce_t, nce_m, Z_v1, Z_v2):
    mask = jnp.ones(x["index"].shape[0])
    actual, banks = {}, (x["memory_v1"], x["memory_v2"])
    for side, (side_name, given) in enumerate((("student", Z_v1), ("teacher", Z_v2))):
        params = {part: x[f"embed_{side_name[0]}.{part}"] for part in ("kernel", "bias")}
        features = distance.normalize(nn.Dense(feat_dim).apply({"params": params}, x[side_name]))
        scores = crd.scores(features, banks[1 - side], x["contrast_index"], nce_t)
        assert scores.shape[1] == 1 + nce_k
        log_z = jnp.log(given) if given > 0 else crd.log_normalizer(scores, mask, n_data)
        actual[f"loss_{side_name}"] = jnp.mean(crd.one_side(scores, log_z, n_data, eps=1e-7))
        actual[f"Z_v{side + 1}"] = jnp.exp(log_z)
        actual[f"memory_v{side + 1}_after"] = contrast.refresh(banks[side], features, x["index"], mask, momentum=nce_m)
    return actual | {"loss": actual["loss_student"] + actual["loss_teacher"]}


OF_NEIGHBOURS = "another statistic, which depends on the order of the batch"

SIGNED = ("teacher_right_vectors",)
"""Vectors whose sign is the decomposition's; the loss is strict where it does not hang on them."""

TABLE = {
    ("sp", "repdistiller"): Row(similarity),
    ("sp", "mdistiller"): Row(similarity),
    ("sp", "kdzoo"): Row(similarity),
    ("sp", "torchdistill"): Row(similarity_torchdistill, "divides rows by their L1 norm, by an argument misplaced"),
    ("cc", "kdzoo"): Row(congruence),
    ("cc", "torchdistill"): Row(congruence_torchdistill, "a norm that is not squared, of features not normalised"),
    ("cc", "repdistiller_core"): Row(neighbours, OF_NEIGHBOURS),
    ("cc", "repdistiller_embed"): Row(neighbours_embedded, OF_NEIGHBOURS),
    ("rkd", "official"): Row(distances_and_angles),
    ("rkd", "repdistiller"): Row(distances_and_angles),
    ("rkd", "mdistiller"): Row(distances_and_angles),
    ("rkd", "mmrazor"): Row(distances_and_angles),
    ("rkd", "torchdistill"): Row(distances_and_angles),
    ("pkt", "repdistiller"): Row(transfer),
    ("pkt", "mdistiller"): Row(transfer),
    ("pkt", "torchdistill"): Row(transfer),
    ("kdsvd", "repdistiller"): Row(singular("channels"), leaves=SIGNED),
    ("kdsvd", "mdistiller"): Row(singular("width"), leaves=SIGNED),
    ("crd", "repdistiller"): Row(contrastive),
    ("crd", "mdistiller"): Row(contrastive),
}
