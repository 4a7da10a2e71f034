"""ViT, by the names of transformers, torchvision and timm.

Dosovitskiy et al., ICLR 2021, https://arxiv.org/abs/2010.11929.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError
from jaxdistill.pretrained.config_json import ACTIVATION_NAMES, ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import attention, linear, norm
from jaxdistill.pretrained.layouts import HEADS, HEADS_BIAS, OUT, PATCHES

MODEL_TYPES = ("vit",)

ATTENTION = ("attention.{}", "output.dense")
"""Names of the layers of the attention of ViT, DeiT and DINOv2."""

HEAD_WIDTHS = {1280: 80}
"""Widths of the heads of networks of some widths, which tensors do not have; 64 otherwise, as in Ti, S, B, L and g."""


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of a `ViT`.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `ViT` does not have.
    """
    config.require_architecture("ViTForImageClassification", "ViTModel")
    prefix = "" if any(name.startswith("embeddings.") for name in names) else "vit."
    fields = read_fields(config)
    fields["pool"] = "tanh" if f"{prefix}pooler.dense.weight" in names else "class"
    if fields["pool"] == "tanh":
        config.require("pooler_act", ("tanh",))
        config.require("pooler_output_size", (fields["width"],))
    ignored = (rf"{prefix}embeddings\.mask_token",)
    entries = (*entries_of(fields, prefix), *linear("head", "classifier", head=True))
    return Correspondence("vit", fields, entries, ignored)


def read_fields(config: ConfigJson) -> dict[str, Any]:
    """Returns the fields of a `ViT` by the keys of ViT, DeiT and DINOv2.

    Args:
        config: of the folder.

    Raises:
        UserError: for a setting that `ViT` does not have.
    """
    config.require("qkv_bias", (True,))
    sides = {}
    for key, default in (("image_size", 224), ("patch_size", 16)):
        side = config.get(key, default)
        if isinstance(side, list) and len(set(side)) == 1:
            side = side[0]
        if isinstance(side, bool) or not isinstance(side, int) or side < 1:
            raise UserError(f"{key} of {config.path} must be the side of a square, got {side!r}. Take other weights")
        sides[key] = side
    width = config.number("hidden_size", 768)
    return {
        "classes": config.num_labels,
        "patch": sides["patch_size"],
        "size": sides["image_size"],
        "layers": config.number("num_hidden_layers", 12),
        "width": width,
        "heads": config.number("num_attention_heads", 12),
        "hidden": config.number("intermediate_size", 4 * width),
        "activation": config.activation("hidden_act"),
        "epsilon": float(config.number("layer_norm_eps", 1e-12)),
        "dropout": float(config.number("hidden_dropout_prob", 0.0)),
    }


def entries_of(fields: Mapping[str, Any], prefix: str) -> Iterator[Entry]:
    """Yields the entries of ViT and DeiT, without those of heads."""
    yield from embeddings(fields, prefix)
    for i in range(fields["layers"]):
        name, layer = f"block{i}", f"{prefix}encoder.layer.{i}."
        yield from attention(name, f"{layer}attention.", *ATTENTION)
        yield from norm(f"{name}.norm1", f"{layer}layernorm_before")
        yield from norm(f"{name}.norm2", f"{layer}layernorm_after")
        yield from linear(f"{name}.feed_forward.up", f"{layer}intermediate.dense")
        yield from linear(f"{name}.feed_forward.down", f"{layer}output.dense")
    yield from norm("final_norm", f"{prefix}layernorm")
    yield from linear("pooler", f"{prefix}pooler.dense")


def embeddings(fields: Mapping[str, Any], prefix: str) -> Iterator[Entry]:
    """Yields the entries of the tokens and positions of ViT, DeiT or DINOv2."""
    patches = f"{prefix}embeddings.patch_embeddings.projection"
    yield Entry("params.class_token", f"{prefix}embeddings.cls_token")
    yield Entry("params.distillation_token", f"{prefix}embeddings.distillation_token")
    yield Entry("params.positions", f"{prefix}embeddings.position_embeddings")
    shape = (fields["width"], -1, fields["patch"], fields["patch"])  # of any number of channels
    yield Entry("params.patches.kernel", f"{patches}.weight", PATCHES, shape=shape)
    yield Entry("params.patches.bias", f"{patches}.bias")


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of a `ViT` without distillation token, as ViT has it.

    Raises:
        UserError: for fields that ViT does not have.
    """
    check_fields("ViT", fields, distillation=("",), pool=("class",), layer_scale=(0.0,))
    return write_fields(fields, "ViT") | {"architectures": ["ViTForImageClassification"], "model_type": "vit"}


def write_fields(fields: Mapping[str, Any], family: str) -> dict[str, Any]:
    """Returns what `read_fields` reads.

    Raises:
        UserError: for fields that `family` does not have, and without the side of the images.
    """
    check_fields(family, fields, activation=ACTIVATION_NAMES)
    if not fields["size"]:
        raise UserError(f"size must be the side of the images to be written as {family}, got 0")
    return {
        "image_size": fields["size"],
        "patch_size": fields["patch"],
        "num_hidden_layers": fields["layers"],
        "hidden_size": fields["width"],
        "num_attention_heads": fields["heads"],
        "intermediate_size": fields["hidden"] or 4 * fields["width"],
        "hidden_act": ACTIVATION_NAMES[fields["activation"]],
        "layer_norm_eps": fields["epsilon"],
        "hidden_dropout_prob": fields["dropout"],
        "attention_probs_dropout_prob": fields["dropout"],
        "qkv_bias": True,
    }


TORCHVISION = {
    "class_token": "class_token",
    "positions": "encoder.pos_embedding",
    "patches": "conv_proj",
    "block": "encoder.layers.encoder_layer_{}.",
    "norm1": "ln_1",
    "qkv.kernel": "self_attention.in_proj_weight",
    "qkv.bias": "self_attention.in_proj_bias",
    "out": "self_attention.out_proj",
    "norm2": "ln_2",
    "up": "mlp.0",
    "down": "mlp.3",
    "final_norm": "encoder.ln",
    "head": "heads.head",
}
TIMM = {
    "class_token": "cls_token",
    "distillation_token": "dist_token",
    "positions": "pos_embed",
    "patches": "patch_embed.proj",
    "block": "blocks.{}.",
    "norm1": "norm1",
    "qkv.kernel": "attn.qkv.weight",
    "qkv.bias": "attn.qkv.bias",
    "out": "attn.proj",
    "layer_scale1": "ls1.gamma",
    "layer_scale2": "ls2.gamma",
    "norm2": "norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
    "final_norm": "norm",
    "head": "head",
    "distillation_head": "head_dist",
}
"""Names of tensors by those of the arrays of `ViT`; of a layer, without "block"."""


def from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Correspondence | None:
    """Returns the correspondence of a `ViT` with the names of torchvision or timm; `None` for other names.

    The number of heads is that of the published networks of the same width.

    Args:
        shapes: of the tensors, by name.
    """
    names = next((x for x in (TORCHVISION, TIMM) if {x["class_token"], x["positions"]} <= shapes.keys()), None)
    if names is None or f"{names['patches']}.weight" not in shapes or f"{names['final_norm']}.weight" not in shapes:
        return None
    width, _, patch, _ = shapes[f"{names['patches']}.weight"]
    tokens = 1 + (names.get("distillation_token") in shapes)
    side = math.isqrt(shapes[names["positions"]][1] - tokens)
    block = re.compile(re.escape(names["block"]).replace(r"\{\}", r"(\d+)") + re.escape(names["norm1"]) + r"\.weight")
    layers = sum(block.fullmatch(name) is not None for name in shapes)
    first = names["block"].format(0)
    head = shapes.get(f"{names['head']}.weight")
    scaled = first + names.get("layer_scale1", "-") in shapes
    fields = {
        "classes": head[0] if head else 1000,
        "patch": patch,
        "size": side * patch,
        "layers": layers,
        "width": width,
        "heads": width // HEAD_WIDTHS.get(width, 64) or 1,
        "hidden": shapes.get(f"{first}{names['up']}.weight", (4 * width,))[0],
        "activation": "gelu",
        "layer_scale": 1.0 if scaled else 0.0,
        "distillation": "head" if tokens == 2 else "",
        "epsilon": 1e-6,
    }
    heads = ("params.head.", "params.distillation_head.")
    return Correspondence("vit", fields, tuple(_torch_entries(layers, names)), head=heads)


def _torch_entries(layers: int, names: Mapping[str, str]) -> Iterator[Entry]:
    for token in ("class_token", "distillation_token", "positions"):
        yield from _same(f"params.{token}", names.get(token))
    yield Entry("params.patches.kernel", f"{names['patches']}.weight", PATCHES)
    yield Entry("params.patches.bias", f"{names['patches']}.bias")
    for i in range(layers):
        name, prefix = f"block{i}", names["block"].format(i)
        for part, ours in enumerate(("query", "key", "value")):
            kernel, bias = (f"params.{name}.attention.{ours}.{array}" for array in ("kernel", "bias"))
            yield Entry(kernel, prefix + names["qkv.kernel"], HEADS, part=part, parts=3)
            yield Entry(bias, prefix + names["qkv.bias"], HEADS_BIAS, part=part, parts=3)
        yield Entry(f"params.{name}.attention.out.kernel", f"{prefix}{names['out']}.weight", OUT)
        yield Entry(f"params.{name}.attention.out.bias", f"{prefix}{names['out']}.bias")
        for number in (1, 2):
            yield from norm(f"{name}.norm{number}", f"{prefix}{names[f'norm{number}']}")
            yield from _same(f"params.{name}.layer_scale{number}", names.get(f"layer_scale{number}"), prefix)
        for part in ("up", "down"):
            yield from linear(f"{name}.feed_forward.{part}", f"{prefix}{names[part]}")
    yield from norm("final_norm", names["final_norm"])
    for head in ("head", "distillation_head"):
        if head in names:
            yield from linear(head, names[head], head=True)


def _same(name: str, tensor: str | None, prefix: str = "") -> Iterator[Entry]:
    if tensor is not None:
        yield Entry(name, prefix + tensor)
