"""ResNet and ResNeXt of torchvision, timm, Hugging Face and Keras Applications.

He et al., CVPR 2016, https://arxiv.org/abs/1512.03385; names of torchvision's `resnet.py`, which timm's `resnet.py` has
too, of transformers' `modeling_resnet.py` and of Keras's `resnet.py`.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError
from jaxdistill.models.resnet import STAGES
from jaxdistill.pretrained.config_json import ConfigJson
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import COUNTERS, batch_norm, conv, keras_batch_norm, keras_conv, keras_head, linear
from jaxdistill.pretrained.layouts import BGR, SAME

MODEL_TYPES = ("resnet",)


def from_shapes(shapes: Mapping[str, tuple[int, ...]]) -> Correspondence | None:
    """Returns the correspondence of a `ResNet` of torchvision or timm; `None` for other names.

    A stem of 3x3 is that of the form "cifar", for which torchvision has no name.

    Args:
        shapes: of tensors by name.
    """
    if not {"conv1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.running_mean"} <= shapes.keys():
        return None
    matches = (re.fullmatch(r"layer(\d+)\.(\d+)\.conv1\.weight", name) for name in shapes)
    places = {(int(match[1]), int(match[2])) for match in matches if match}
    depths = tuple(sum(stage == number for stage, _ in places) for number in range(1, max(places)[0] + 1))
    width, _, side, _ = shapes["conv1.weight"]
    bottleneck = "layer1.0.conv3.weight" in shapes
    fields: dict[str, Any] = {
        "classes": shapes.get("fc.weight", (1000,))[0],
        "width": width,
        **depth_fields(bottleneck, depths),
    }
    if bottleneck:
        inner, per_group, *_ = shapes["layer1.0.conv2.weight"]
        groups = max(inner // max(per_group, 1), 1)
        fields |= {"groups": groups, "width_per_group": max(inner // groups * 64 // width, 1)}
    if side == 3:
        fields["form"] = "cifar"
    entries = (*conv("stem_conv", "conv1"), *batch_norm("stem_norm", "bn1"), *linear("head", "fc", head=True))
    entries += tuple(entry for stage, index in sorted(places) for entry in _block(stage, index, bottleneck, shapes))
    return Correspondence("resnet", fields, entries, (COUNTERS,))


def _block(stage: int, index: int, bottleneck: bool, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[Entry]:
    name, tensor = f"stage{stage}_block{index}", f"layer{stage}.{index}"
    for number in (1, 2, 3) if bottleneck else (1, 2):
        yield from conv(f"{name}.conv{number}", f"{tensor}.conv{number}")
        yield from batch_norm(f"{name}.norm{number}", f"{tensor}.bn{number}")
    if f"{tensor}.downsample.0.weight" in shapes:
        yield from conv(f"{name}.shortcut_conv", f"{tensor}.downsample.0")
        yield from batch_norm(f"{name}.shortcut_norm", f"{tensor}.downsample.1")


def from_keras(shapes: Mapping[str, tuple[int, ...]]) -> Correspondence | None:
    """Returns the correspondence of a ResNet of Keras Applications; `None` for other names.

    Convolutions have biases, the stride of a stage is in the first 1x1, and the first kernel reads blue, green and red.

    Args:
        shapes: of weights by layer, such as `conv1_conv.kernel`.
    """
    if not {"conv1_conv.kernel", "conv1_bn.gamma", "conv2_block1_3_bn.gamma"} <= shapes.keys():
        return None
    matches = (re.fullmatch(r"conv(\d+)_block(\d+)_1_conv\.kernel", name) for name in shapes)
    places = sorted((int(match[1]) - 1, int(match[2]) - 1) for match in matches if match)
    depths = tuple(sum(stage == number for stage, _ in places) for number in range(1, max(places)[0] + 1))
    *_, channels, width = shapes["conv1_conv.kernel"]
    fields = {
        "classes": shapes.get("predictions.bias", (1000,))[0],
        "width": width,
        **depth_fields(True, depths),
        "stride_first": True,
        "bias": True,
        "epsilon": 1.001e-5,
    }
    entries = [*keras_conv("stem_conv", "conv1_conv", BGR if channels == 3 else SAME)]
    entries += [*keras_batch_norm("stem_norm", "conv1_bn"), *keras_head("predictions")]
    for stage, index in places:
        name, layer = f"stage{stage}_block{index}", f"conv{stage + 1}_block{index + 1}"
        for number, (prefix, suffix) in enumerate([("shortcut_", ""), ("", "1"), ("", "2"), ("", "3")]):
            if f"{layer}_{number}_conv.kernel" in shapes:
                entries += keras_conv(f"{name}.{prefix}conv{suffix}", f"{layer}_{number}_conv")
                entries += keras_batch_norm(f"{name}.{prefix}norm{suffix}", f"{layer}_{number}_bn")
    return Correspondence("resnet", fields, tuple(entries))


def depth_fields(bottleneck: bool, depths: tuple[int, ...]) -> dict[str, Any]:
    """Returns the fields `depth`, and `depths` for numbers of blocks that no published ResNet has."""
    named = {(block.expansion == 4, counts): depth for depth, (block, counts) in STAGES.items()}
    if (bottleneck, depths) in named:
        return {"depth": named[bottleneck, depths]}
    return {"depth": 50 if bottleneck else 18, "depths": depths}


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of a `ResNet` of Hugging Face.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `ResNet` does not have.
    """
    config.require("hidden_act", ("relu",))
    config.require("downsample_in_first_stage", (False,))
    config.require("num_channels", (3,))
    bottleneck = config.choose("layer_type", {"basic": False, "bottleneck": True}, "bottleneck")
    depths, sizes = tuple(config["depths"]), list(config["hidden_sizes"])
    width = config.number("embedding_size", 64)
    expected = [width * (4 if bottleneck else 1) * 2**stage for stage in range(len(depths))]
    if sizes != expected:
        raise UserError(
            f"hidden_sizes of {config.path} must be {expected} with embedding_size={width}, got {sizes}. Take other"
            " weights"
        )
    fields = {"classes": config.num_labels, "width": width, **depth_fields(bottleneck, depths)}
    if bottleneck:
        fields["stride_first"] = bool(config.get("downsample_in_bottleneck", False))
    prefix = "resnet." if any(name.startswith("resnet.") for name in names) else ""
    entries = (*_unit("stem", f"{prefix}embedder.embedder"), *linear("head", "classifier.1", head=True))
    for stage, count in enumerate(depths):
        for index in range(count):
            name, tensor = f"stage{stage + 1}_block{index}.", f"{prefix}encoder.stages.{stage}.layers.{index}"
            for number in range(3 if bottleneck else 2):
                entries += (*_unit(name, f"{tensor}.layer.{number}", str(number + 1)),)
            if index == 0:
                entries += (*_unit(f"{name}shortcut", f"{tensor}.shortcut"),)
    return Correspondence("resnet", fields, entries, (COUNTERS,))


def _unit(name: str, tensor: str, number: str = "") -> Iterator[Entry]:
    """Yields the entries of a convolution and its normalisation."""
    infix = "" if number else "_"
    yield from conv(f"{name}{infix}conv{number}", f"{tensor}.convolution")
    yield from batch_norm(f"{name}{infix}norm{number}", f"{tensor}.normalization")


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of a `ResNet`.

    Raises:
        UserError: for groups, biases, the form "cifar" and another epsilon, which transformers does not have.
    """
    plain = {"groups": 1, "width_per_group": 64, "form": "imagenet", "bias": False, "epsilon": 1e-5}
    for name, value in plain.items():
        if fields.get(name, value) != value:
            raise UserError(f"{name} must be {value!r} to be written as ResNet, got {fields[name]!r}")
    block, depths = STAGES[fields["depth"]]
    depths, width = fields.get("depths") or depths, fields["width"]
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "num_channels": 3,
        "embedding_size": width,
        "hidden_sizes": [width * block.expansion * 2**stage for stage in range(len(depths))],
        "depths": list(depths),
        "layer_type": "bottleneck" if block.expansion == 4 else "basic",
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": fields.get("stride_first", False),
    }
