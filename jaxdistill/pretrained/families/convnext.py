"""ConvNeXt of torchvision, timm and Hugging Face.

Liu et al., CVPR 2022, https://arxiv.org/abs/2201.03545; names of torchvision's and timm's `convnext.py` and of
transformers' `modeling_convnext.py`.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError
from jaxdistill.pretrained.config_json import ConfigJson
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import conv, linear, norm
from jaxdistill.pretrained.layouts import PATCHES, SAME, TRAILING, Layout

MODEL_TYPES = ("convnext",)


@dataclasses.dataclass(frozen=True)
class Names:
    """The names of a library's tensors.

    Attributes:
        stem, stem_norm, final_norm, head: of these layers.
        downsampling: of the norm and the convolution before a stage, with `{stage}` from 0.
        block: of a block, with `{stage}` and `{index}`.
        layers: of a block's depthwise convolution, norm and linear layers.
        scale: of its layer scale.
        scale_layout: of the latter.
    """

    stem: str
    stem_norm: str
    final_norm: str
    head: str
    downsampling: str
    block: str
    layers: tuple[str, str, str, str]
    scale: str
    scale_layout: Layout = SAME


TIMM = Names(
    stem="stem.0",
    stem_norm="stem.1",
    final_norm="head.norm",
    head="head.fc",
    downsampling="stages.{stage}.downsample",
    block="stages.{stage}.blocks.{index}",
    layers=("conv_dw", "norm", "mlp.fc1", "mlp.fc2"),
    scale="gamma",
)

TORCHVISION = Names(
    stem="features.0.0",
    stem_norm="features.0.1",
    final_norm="classifier.0",
    head="classifier.2",
    downsampling="features.{double}",
    block="features.{after}.{index}",
    layers=("block.0", "block.2", "block.3", "block.5"),
    scale="layer_scale",
    scale_layout=TRAILING,
)


def transformers_names(prefix: str) -> Names:
    """Returns the names of transformers; `prefix` is "" for a network without a head."""
    stages = f"{prefix}encoder.stages.{{stage}}."
    return Names(
        stem=f"{prefix}embeddings.patch_embeddings",
        stem_norm=f"{prefix}embeddings.layernorm",
        final_norm=f"{prefix}layernorm",
        head="classifier",
        downsampling=f"{stages}downsampling_layer",
        block=f"{stages}layers.{{index}}",
        layers=("dwconv", "layernorm", "pwconv1", "pwconv2"),
        scale="layer_scale_parameter",
    )


def from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Correspondence | None:
    """Returns the correspondence of a `ConvNeXt` of torchvision or timm; `None` for other names.

    Args:
        shapes: of tensors by name.
    """
    for names in (TIMM, TORCHVISION):
        first = _fill(names.block, 0, 0)
        if f"{first}.{names.layers[0]}.weight" in shapes and f"{names.stem_norm}.weight" in shapes:
            break
    else:
        return None
    if len(shapes[f"{names.stem}.weight"]) != 4:
        return None
    depths: list[int] = []
    while f"{_fill(names.block, len(depths), 0)}.{names.layers[0]}.weight" in shapes:
        stage, count = len(depths), 0
        while f"{_fill(names.block, stage, count)}.{names.layers[0]}.weight" in shapes:
            count += 1
        depths.append(count)
    widths = tuple(
        shapes[f"{_fill(names.block, stage, 0)}.{names.layers[1]}.weight"][0] for stage in range(len(depths))
    )
    fields: dict[str, Any] = {
        "classes": shapes.get(f"{names.head}.weight", (1000,))[0],
        "depths": tuple(depths),
        "widths": widths,
        "patch": shapes[f"{names.stem}.weight"][-1],
    }
    if f"{first}.{names.scale}" not in shapes:
        fields["layer_scale"] = 0.0
    # timm's linear layers are convolutions of 1x1 in some small networks.
    pointwise = len(shapes[f"{first}.{names.layers[2]}.weight"]) == 4
    return Correspondence("convnext", fields, tuple(_entries(depths, names, pointwise)))


def _fill(name: str, stage: int, index: int = 0) -> str:
    # torchvision alternates downsampling and blocks, and the stem is the first downsampling.
    return name.format(stage=stage, index=index, double=2 * stage, after=2 * stage + 1)


def _entries(depths: Collection[int], names: Names, pointwise: bool = False) -> Iterator[Entry]:
    yield from conv("stem_conv", names.stem, bias=True)
    yield from norm("stem_norm", names.stem_norm)
    for stage, count in enumerate(depths):
        if stage:
            yield from norm(f"stage{stage + 1}_norm", f"{_fill(names.downsampling, stage)}.0")
            yield from conv(f"stage{stage + 1}_conv", f"{_fill(names.downsampling, stage)}.1", bias=True)
        for index in range(count):
            name, tensor = f"stage{stage + 1}_block{index}", _fill(names.block, stage, index)
            depthwise, block_norm, expand, project = (f"{tensor}.{layer}" for layer in names.layers)
            yield from conv(f"{name}.depthwise_conv", depthwise, bias=True)
            yield from norm(f"{name}.norm", block_norm)
            for layer, weight in ((f"{name}.expand", expand), (f"{name}.project", project)):
                yield from conv(layer, weight, bias=True, layout=PATCHES) if pointwise else linear(layer, weight)
            yield Entry(f"params.{name}.layer_scale", f"{tensor}.{names.scale}", names.scale_layout)
    yield from norm("final_norm", names.final_norm)
    yield from linear("head", names.head, head=True)


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of a `ConvNeXt` of Hugging Face.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `ConvNeXt` does not have.
    """
    config.require("hidden_act", ("gelu",))
    config.require("num_channels", (3,))
    depths = tuple(config.get("depths", (3, 3, 9, 3)))
    fields = {
        "classes": config.num_labels,
        "depths": depths,
        "widths": tuple(config.get("hidden_sizes", (96, 192, 384, 768))),
        "patch": config.number("patch_size", 4),
        "layer_scale": float(config.number("layer_scale_init_value", 1e-6)),
        "drop_path": float(config.number("drop_path_rate", 0.0)),
        "final_epsilon": float(config.number("layer_norm_eps", 1e-12)),
    }
    prefix = "convnext." if any(name.startswith("convnext.") for name in names) else ""
    return Correspondence("convnext", fields, tuple(_entries(depths, transformers_names(prefix))))


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of a `ConvNeXt`.

    Raises:
        UserError: for another epsilon than that of transformers.
    """
    if fields.get("epsilon", 1e-6) != 1e-6:
        raise UserError(f"epsilon must be 1e-06 to be written as ConvNeXt, got {fields['epsilon']!r}")
    return {
        "architectures": ["ConvNextForImageClassification"],
        "model_type": "convnext",
        "num_channels": 3,
        "patch_size": fields["patch"],
        "num_stages": len(fields["depths"]),
        "depths": list(fields["depths"]),
        "hidden_sizes": list(fields["widths"]),
        "hidden_act": "gelu",
        "layer_scale_init_value": fields["layer_scale"],
        "drop_path_rate": fields["drop_path"],
        "layer_norm_eps": fields["final_epsilon"],
    }
