"""DINOv2.

Oquab et al., 2023, https://arxiv.org/abs/2304.07193; names of transformers' `modeling_dinov2.py`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError
from jaxdistill.pretrained.config_json import ACTIVATION_NAMES, ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import attention, linear, norm
from jaxdistill.pretrained.families import vit
from jaxdistill.pretrained.layouts import LINEAR

MODEL_TYPES = ("dinov2",)


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of a `ViT`, whose positions are interpolated for images of other sizes.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `ViT` does not have.
    """
    config.require_architecture("Dinov2ForImageClassification", "Dinov2Model")
    gated = bool(config.get("use_swiglu_ffn", False))
    fields = vit.read_fields(config)
    fields |= {
        "interpolate": True,
        "hidden": hidden_width(fields["width"], config.number("mlp_ratio", 4), gated),
        "activation": "swiglu" if gated else fields["activation"],
        "layer_scale": float(config.number("layerscale_value", 1.0)) or 1.0,
        "pool": "class_mean" if config.architecture == "Dinov2ForImageClassification" else "class",
        "epsilon": float(config.number("layer_norm_eps", 1e-6)),
    }
    prefix = "" if any(name.startswith("embeddings.") for name in names) else "dinov2."
    ignored = (r"(dinov2\.)?embeddings\.mask_token",)
    return Correspondence("vit", fields, tuple(_entries(fields, prefix)), ignored)


def hidden_width(width: int, ratio: float, gated: bool) -> int:
    """Returns the width of the feed-forward layer: if it is gated two thirds, up to a multiple of 8."""
    hidden = int(width * ratio)
    return (int(hidden * 2 / 3) + 7) // 8 * 8 if gated else hidden


def _entries(fields: Mapping[str, Any], prefix: str) -> Iterator[Entry]:
    feed_forward = _gated if fields["activation"] == "swiglu" else _plain
    yield from vit.embeddings(fields, prefix)
    for i in range(fields["layers"]):
        name, layer = f"block{i}", f"{prefix}encoder.layer.{i}."
        yield from attention(name, f"{layer}attention.", *vit.ATTENTION)
        for number in (1, 2):
            yield from norm(f"{name}.norm{number}", f"{layer}norm{number}")
            yield Entry(f"params.{name}.layer_scale{number}", f"{layer}layer_scale{number}.lambda1")
        yield from feed_forward(f"{name}.feed_forward", f"{layer}mlp.")
    yield from norm("final_norm", f"{prefix}layernorm")
    yield from linear("head", "classifier", head=True)


def _plain(name: str, prefix: str) -> Iterator[Entry]:
    yield from linear(f"{name}.up", f"{prefix}fc1")
    yield from linear(f"{name}.down", f"{prefix}fc2")


def _gated(name: str, prefix: str) -> Iterator[Entry]:
    for part, ours in enumerate(("gate", "up")):
        yield Entry(f"params.{name}.{ours}.kernel", f"{prefix}weights_in.weight", LINEAR, part=part, parts=2)
        yield Entry(f"params.{name}.{ours}.bias", f"{prefix}weights_in.bias", part=part, parts=2)
    yield from linear(f"{name}.down", f"{prefix}weights_out")


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of a `ViT` with layer scale, as DINOv2 has it.

    Raises:
        UserError: for fields that DINOv2 does not have.
    """
    gated = fields["activation"] == "swiglu"
    check_fields("DINOv2", fields, activation=("swiglu", *ACTIVATION_NAMES), distillation=("",), pool=("class_mean",))
    if not fields["layer_scale"]:
        raise UserError("layer_scale must be greater than 0 to be written as DINOv2, got 0")
    width, hidden = fields["width"], fields["hidden"] or 4 * fields["width"]
    ratio = next((r for r in range(1, 17) if hidden_width(width, r, gated) == hidden), hidden / width)
    if hidden_width(width, ratio, gated) != hidden:
        raise UserError(f"hidden must be that of a ratio to width={width} to be written as DINOv2, got {hidden}")
    plain = {"activation": "gelu"} if gated else {}
    config = vit.write_fields({**fields, **plain}, "DINOv2")
    del config["intermediate_size"]
    ffn = {"mlp_ratio": ratio, "use_swiglu_ffn": gated, "layerscale_value": fields["layer_scale"]}
    return config | ffn | {"architectures": ["Dinov2ForImageClassification"], "model_type": "dinov2"}
