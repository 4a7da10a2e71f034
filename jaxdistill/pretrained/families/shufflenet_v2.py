"""ShuffleNet V2 of torchvision.

Ma et al., ECCV 2018, https://arxiv.org/abs/1807.11164; names of torchvision's `shufflenetv2.py`.
"""

import re
from collections.abc import Iterator, Mapping

from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import COUNTERS, batch_norm, conv, linear

BRANCHES = {
    "branch1": (("shortcut_conv1", "shortcut_norm1", 0), ("shortcut_conv2", "shortcut_norm2", 2)),
    "branch2": (("conv1", "norm1", 0), ("conv2", "norm2", 3), ("conv3", "norm3", 5)),
}
"""Convolutions and normalisations of a unit by torchvision's branch, and the place of the convolution in it."""


def from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Correspondence | None:
    """Returns the correspondence of a `ShuffleNetV2`; `None` for other names.

    Args:
        shapes: of tensors by name.
    """
    if not {"conv1.0.weight", "conv5.0.weight", "stage2.0.branch2.0.weight"} <= shapes.keys():
        return None
    matches = (re.fullmatch(r"stage(\d+)\.(\d+)\.branch2\.0\.weight", name) for name in shapes)
    units = sorted((int(match[1]), int(match[2])) for match in matches if match)
    stages = sorted({stage for stage, _ in units})
    fields = {
        "classes": shapes.get("fc.weight", (1000,))[0],
        "channels": (
            *(2 * shapes[f"stage{stage}.0.branch2.0.weight"][0] for stage in stages),
            shapes["conv5.0.weight"][0],
        ),
        "depths": tuple(sum(stage == number for number, _ in units) for stage in stages),
    }
    entries = [*conv("stem_conv", "conv1.0"), *batch_norm("stem_norm", "conv1.1")]
    entries += [*conv("final_conv", "conv5.0"), *batch_norm("final_norm", "conv5.1"), *linear("head", "fc", head=True)]
    for stage, index in units:
        entries += _unit(f"stage{stage - 1}_block{index}", f"stage{stage}.{index}", index == 0)
    return Correspondence("shufflenet_v2", fields, tuple(entries), (COUNTERS,))


def _unit(name: str, tensor: str, is_first: bool) -> Iterator[Entry]:
    """Yields the entries of a unit; the first one of a stage has two branches."""
    for branch in ("branch1", "branch2") if is_first else ("branch2",):
        for layer, norm, place in BRANCHES[branch]:
            yield from conv(f"{name}.{layer}", f"{tensor}.{branch}.{place}")
            yield from batch_norm(f"{name}.{norm}", f"{tensor}.{branch}.{place + 1}")
