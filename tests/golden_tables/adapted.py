"""Losses of features that pass through learned adapters."""

import jax.numpy as jnp

from golden_tables import Row
from jaxdistill.losses import spatial
from jaxdistill.methods.mgd import Generation, mgd
from jaxdistill.methods.ofd import Connector, margin_of, ofd
from jaxdistill.methods.reviewkd import Fusion, hcl, levels


def numbered(x, name):
    """The inputs `name_0`, `name_1`, ... in order."""
    return [x[f"{name}_{index}"] for index in range(sum(key.startswith(f"{name}_") for key in x))]


def convolution(x, name):
    return {part: x[f"{name}.{part}"] for part in ("kernel", "bias") if f"{name}.{part}" in x}


def norm(x, name):
    """The params and the statistics of a batch normalisation."""
    params, statistics = (
        {part: x[f"{name}.{part}"] for part in parts} for parts in (("scale", "bias"), ("mean", "var"))
    )
    return params, statistics


def connected(x, name, student, mode, size=1):
    scale, statistics = norm(x, f"{name}.bn")
    params = {"conv": convolution(x, name), "norm": scale}
    module = Connector(x[f"{name}.kernel"].shape[-1], size)
    variables = {"params": params, "batch_stats": {"norm": statistics}}
    return module.apply(variables, student, jnp.ones(len(student)), mode == "train", mutable=["batch_stats"])[0]


def ofd_official(x):
    """The sum over the batch too; its training script divides by the batch and by 1000, as our method does."""
    return jnp.sum(ofd(x["student_0"], x["teacher_0"], x["margin"]))


def ofd_mmrazor(x, loss_weight, mul_factor):
    return loss_weight / mul_factor * jnp.mean(ofd(x["student_0"], x["teacher_0"], x["margin"]))


def ofd_mdistiller(x, kernel_size, mode, bn_eps):
    actual, students = {"loss": jnp.zeros(())}, numbered(x, "student")
    for index, student in enumerate(students):
        margin = margin_of(x[f"teacher_bn_bias_{index}"], jnp.abs(x[f"teacher_bn_scale_{index}"]))
        student = connected(x, f"connector{index}", student, mode, kernel_size)
        teacher = spatial.average_pool(x[f"teacher_{index}"], student.shape[1:3])
        actual["loss"] += jnp.mean(ofd(student, teacher, margin)) / 2 ** (len(students) - index - 1)
        actual[f"margin_{index}"] = margin
    return actual


def ofd_kdzoo(x, mode, bn_eps):
    """Its margin is the batch's own: the mean of what is below 0 in each channel."""
    teacher = x["teacher_0"]
    below = teacher < 0
    margin = jnp.sum(jnp.where(below, teacher, 0.0), (0, 1, 2)) / (jnp.sum(below, (0, 1, 2)) + 1e-6)
    return jnp.sum(ofd(connected(x, "connector", x["student_0"], mode), teacher, margin)) / teacher.size


def hcl_mdistiller(x):
    pairs = zip(numbered(x, "student"), numbered(x, "teacher"), strict=True)
    return sum(jnp.mean(hcl(student, teacher)) for student, teacher in pairs)


def hcl_torchdistill(x, reduction, output_sizes):
    reduce = {"mean": jnp.mean, "sum": jnp.sum}[reduction]
    actual = levels(x["student_0"], x["teacher_0"], output_sizes)
    return sum(weight * reduce(squares) for weight, squares in actual)


def reviewkd(x, in_channels, out_channels, mid_channel, shapes, out_shapes, mode, bn_eps):
    students, teachers = numbered(x, "student"), numbered(x, "teacher")
    actual, deeper = {"loss": jnp.zeros(())}, None
    for index in reversed(range(len(students))):
        student, teacher, name = students[index], teachers[index], f"abf{index}"
        params = {f"conv{part}": convolution(x, f"{name}.conv{part}") for part in (1, 2)}
        (params["norm1"], first), (params["norm2"], second) = (norm(x, f"{name}.bn{part}") for part in (1, 2))
        params |= {"attention": convolution(x, f"{name}.att")} if deeper is not None else {}
        variables = {"params": params, "batch_stats": {"norm1": first, "norm2": second}}
        module, mask = Fusion(mid_channel, teacher.shape[-1], teacher.shape[1:3]), jnp.ones(len(student))
        (fused, deeper), _ = module.apply(variables, student, deeper, mask, mode == "train", mutable=["batch_stats"])
        actual["loss"] += jnp.mean(hcl(fused, teacher))
        actual[f"fused_{index}"] = fused
    return actual


def mgd_from(x, alpha, keep):
    params = {"conv0": convolution(x, "gen0"), "conv1": convolution(x, "gen1")}
    params |= {"align": convolution(x, "align")} if "align.kernel" in x else {}
    teacher = x["teacher_0"]
    generated = Generation(teacher.shape[-1]).apply({"params": params}, x["student_0"], keep.astype(teacher.dtype))
    return jnp.mean(mgd(generated, teacher, alpha))


def mgd_official_cls(x, alpha, **ratio):
    return mgd_from(x, alpha, x["uniform"] >= ratio["lambda"])


def mgd_pixel(x, alpha, mask_on_channel=False, **ratio):
    """Keeps the other end of the draws than the classification release."""
    return mgd_from(x, alpha, x["uniform"] <= 1 - ratio["lambda"])


TABLE = {
    ("ofd", "official_core"): Row(ofd_official),
    ("ofd", "mmrazor_core"): Row(ofd_mmrazor),
    ("ofd", "mdistiller"): Row(ofd_mdistiller),
    ("ofd", "kdzoo"): Row(ofd_kdzoo),
    ("reviewkd_hcl", "mdistiller"): Row(hcl_mdistiller),
    ("reviewkd_hcl", "official"): Row(hcl_mdistiller),
    ("reviewkd_hcl", "torchdistill"): Row(hcl_torchdistill),
    ("reviewkd", "mdistiller"): Row(reviewkd),
    ("mgd", "official_cls"): Row(mgd_official_cls),
    ("mgd", "official_det"): Row(mgd_pixel),
    ("mgd", "official_seg"): Row(mgd_pixel),
    ("mgd", "mmrazor"): Row(mgd_pixel),
}
