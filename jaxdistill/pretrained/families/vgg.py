"""VGG of torchvision and timm.

Simonyan & Zisserman, ICLR 2015, https://arxiv.org/abs/1409.1556; names of torchvision's and timm's `vgg.py`.
"""

import itertools
import re
from collections.abc import Mapping

from jaxdistill.models.vgg import STAGES
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import COUNTERS, batch_norm, conv
from jaxdistill.pretrained.families.bert import linear
from jaxdistill.pretrained.layouts import CONV, PATCHES, PLACES


def from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Correspondence | None:
    """Returns the correspondence of a `VGG`; `None` for other names.

    Args:
        shapes: of tensors by name.
    """
    matches = (re.fullmatch(r"features\.(\d+)\.weight", name) for name in shapes)
    places = sorted(int(match[1]) for match in matches if match and len(shapes[match[0]]) == 4)
    timm = "pre_logits.fc1.weight" in shapes
    head = "head.fc" if timm else "classifier.6"
    hidden = "pre_logits.fc1" if timm else "classifier.0"
    if not places or f"{hidden}.weight" not in shapes:
        return None
    norm = any(name.endswith(".running_mean") for name in shapes)
    stages = _stages(places, norm)
    depths = {counts: depth for depth, counts in STAGES.items()}
    if tuple(map(len, stages)) not in depths:
        return None
    fields = {
        "classes": shapes.get(f"{head}.weight", (1000,))[0],
        "depth": depths[tuple(map(len, stages))],
        "norm": norm,
        "channels": tuple(shapes[f"features.{stage[0]}.weight"][0] for stage in stages),
        "hidden": shapes[f"{hidden}.weight"][0],
    }
    entries: list[Entry] = []
    for number, stage in enumerate(stages, start=1):
        for index, place in enumerate(stage):
            entries += conv(f"stage{number}_conv{index}", f"features.{place}", bias=True)
            if norm:
                entries += batch_norm(f"stage{number}_norm{index}", f"features.{place + 1}")
    second = "pre_logits.fc2" if timm else "classifier.3"
    entries += conv("hidden1", hidden, bias=True, layout=CONV if timm else PLACES)
    # timm's second hidden layer is a convolution of 1x1.
    entries += conv("hidden2", second, bias=True, layout=PATCHES) if timm else linear("hidden2", second)
    entries += linear("head", head, head=True)
    return Correspondence("vgg", fields, tuple(entries), (COUNTERS,))


def _stages(places: list[int], norm: bool) -> list[list[int]]:
    """Returns the places of convolutions by stage: a pooling between two of them moves the second one further."""
    stages, layers = [[places[0]]], 3 if norm else 2
    for before, place in itertools.pairwise(places):
        if place - before > layers:
            stages.append([])
        stages[-1].append(place)
    return stages
