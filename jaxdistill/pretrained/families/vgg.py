"""VGG of torchvision, timm and Keras Applications.

Simonyan & Zisserman, ICLR 2015, https://arxiv.org/abs/1409.1556; names of torchvision's and timm's `vgg.py` and of
Keras's `vgg16.py`.
"""

import itertools
import re
from collections.abc import Iterator, Mapping

from jaxdistill.models.vgg import STAGES
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import COUNTERS, batch_norm, conv, keras_conv, keras_head, linear
from jaxdistill.pretrained.layouts import BGR, CONV, PATCHES, PLACES, PLACES_IN_FIRST, SAME

DEPTHS: dict[tuple[int, ...], int] = {counts: depth for depth, counts in STAGES.items()}
"""Depth by the numbers of convolutions in each stage."""


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
    depth = DEPTHS.get(tuple(map(len, stages)))
    if depth is None:
        return None
    fields = {
        "classes": shapes.get(f"{head}.weight", (1000,))[0],
        "depth": depth,
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


def from_keras(shapes: Mapping[str, tuple[int, ...]]) -> Correspondence | None:
    """Returns the correspondence of a VGG-16 or VGG-19 of Keras Applications; `None` for other names.

    The first kernel reads blue, green and red.

    Args:
        shapes: of weights by layer, such as `block1_conv1.kernel`.
    """
    matches = (re.fullmatch(r"block(\d)_conv(\d)\.kernel", name) for name in shapes)
    places = sorted((int(match[1]), int(match[2])) for match in matches if match)
    counts = tuple(sum(stage == number for stage, _ in places) for number in range(1, 6))
    if counts not in DEPTHS:
        return None
    fields = {
        "classes": shapes.get("predictions.bias", (1000,))[0],
        "depth": DEPTHS[counts],
        "channels": tuple(shapes[f"block{stage}_conv1.kernel"][-1] for stage in range(1, 6)),
        "hidden": shapes.get("fc1.bias", (4096,))[0],
    }
    entries = [entry for stage, index in places for entry in _keras_layer(stage, index, shapes)]
    entries += keras_conv("hidden1", "fc1", PLACES_IN_FIRST)
    entries += [*keras_conv("hidden2", "fc2"), *keras_head("predictions")]
    return Correspondence("vgg", fields, tuple(entries))


def _keras_layer(stage: int, index: int, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Entry]:
    layer = f"block{stage}_conv{index}"
    reads_bgr = (stage, index) == (1, 1) and shapes[f"{layer}.kernel"][2] == 3
    return keras_conv(f"stage{stage}_conv{index - 1}", layer, BGR if reads_bgr else SAME)


def _stages(places: list[int], norm: bool) -> list[list[int]]:
    """Returns the places of convolutions by stage: a pooling between two of them moves the second one further."""
    stages, layers = [[places[0]]], 3 if norm else 2
    for before, place in itertools.pairwise(places):
        if place - before > layers:
            stages.append([])
        stages[-1].append(place)
    return stages
