"""MobileNetV2 of torchvision and timm.

Sandler et al., CVPR 2018, https://arxiv.org/abs/1801.04381; names of torchvision's `mobilenetv2.py` and of timm's
`efficientnet.py`.
"""

import re
from collections.abc import Mapping

from jaxdistill.errors import UserError
from jaxdistill.models.mobilenet_v2 import GROUPS, STAGES, MobileNetV2
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import COUNTERS, batch_norm, conv, linear

Shapes = Mapping[str, tuple[int, ...]]

WIDTHS = (1.0, 0.75, 0.5, 0.35, 0.25, 0.1, 1.1, 1.2, 1.3, 1.4)
"""Widths that are tried, the published ones first: rounded numbers of channels do not determine one."""

DEPTHS = MobileNetV2().depths
LAST = sum(DEPTHS) + 1
"""The place of torchvision's last convolution, after the stem and the blocks."""


def from_shapes(shapes: Shapes) -> Correspondence | None:
    """Returns the correspondence of a `MobileNetV2`; `None` for other names.

    Args:
        shapes: of tensors by name.

    Raises:
        UserError: for numbers of channels that are those of no width.
    """
    if {"features.1.conv.0.0.weight", f"features.{LAST}.0.weight"} <= shapes.keys():
        depths, layers = DEPTHS, ("features.0.0", "features.0.1", f"features.{LAST}.0", f"features.{LAST}.1")
        block, head = _torchvision_block, "classifier.1"
    elif _is_timm(shapes):
        depths, layers = _timm_depths(shapes), ("conv_stem", "bn1", "conv_head", "bn2")
        block, head = _timm_block, "classifier"
    else:
        return None
    stem, stem_norm, final, final_norm = layers
    entries = [*conv("stem_conv", stem), *batch_norm("stem_norm", stem_norm)]
    entries += [*conv("final_conv", final), *batch_norm("final_norm", final_norm), *linear("head", head, head=True)]
    for stage, groups in enumerate(STAGES, start=1):
        places = [(group, index) for group in groups for index in range(depths[group])]
        for place, (group, index) in enumerate(places):
            for part, (layer, norm) in block(group, index).items():
                entries += conv(f"stage{stage}_block{place}.{part}_conv", layer)
                entries += batch_norm(f"stage{stage}_block{place}.{part}_norm", norm)
    width = _width(shapes, depths, entries)
    fields = {"classes": shapes.get(f"{head}.weight", (1000,))[0], "width": width, "depths": depths}
    return Correspondence("mobilenet_v2", fields, tuple(entries), (COUNTERS,))


def _torchvision_block(group: int, index: int) -> dict[str, tuple[str, str]]:
    """Returns the convolution and the normalisation of each part of a block."""
    prefix = f"features.{1 + sum(DEPTHS[:group]) + index}.conv"
    parts = ("expand", "depthwise") if group else ("depthwise",)
    units = {part: (f"{prefix}.{number}.0", f"{prefix}.{number}.1") for number, part in enumerate(parts)}
    return units | {"project": (f"{prefix}.{len(parts)}", f"{prefix}.{len(parts) + 1}")}


def _timm_block(group: int, index: int) -> dict[str, tuple[str, str]]:
    parts = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
    if group == 0:
        parts = {"depthwise": "conv_dw", "project": "conv_pw"}
    prefix = f"blocks.{group}.{index}"
    layers = enumerate(parts.items(), start=1)
    return {part: (f"{prefix}.{layer}", f"{prefix}.bn{number}") for number, (part, layer) in layers}


def _is_timm(shapes: Shapes) -> bool:
    """Whether the names are those of timm's MobileNetV2; MnasNet and others have other kernels and more parts."""
    names = {"conv_stem.weight", "conv_head.weight", "blocks.0.0.conv_dw.weight", "blocks.6.0.conv_pwl.weight"}
    depthwise = [shape for name, shape in shapes.items() if name.endswith(".conv_dw.weight")]
    return (
        names <= shapes.keys() and all(shape[-1] == 3 for shape in depthwise) and not any(".se." in x for x in shapes)
    )


def _timm_depths(shapes: Shapes) -> tuple[int, ...]:
    blocks = {match[0] for match in map(re.compile(r"blocks\.(\d+)\.\d+").match, shapes) if match}
    return tuple(sum(name.startswith(f"blocks.{group}.") for name in blocks) for group in range(len(GROUPS)))


def _width(shapes: Shapes, depths: tuple[int, ...], entries: list[Entry]) -> float:
    """Returns the width whose numbers of channels are those of the tensors."""
    tensors = {entry.name: entry.tensor for entry in entries}

    def out(name: str) -> int:
        return shapes.get(tensors[f"params.{name}.kernel"], (0,))[0]

    last = [(f"stage{number}", groups) for number, groups in enumerate(STAGES, start=1)]
    actual = [out("stem_conv"), out("final_conv")]
    actual += [out(f"{name}_block{sum(depths[group] for group in groups) - 1}.project_conv") for name, groups in last]
    for width in (*WIDTHS, out("stem_conv") / 32):
        scaled = MobileNetV2(width=width).scaled
        expected = [scaled(32), scaled(1280, max(width, 1.0)), *(scaled(GROUPS[groups[-1]][1]) for groups in STAGES)]
        if actual == expected:
            return width
    raise UserError(
        f"the channels of a MobileNetV2 must be those of one of the widths {sorted(WIDTHS)}, got {actual}. Take other"
        " weights"
    )
