"""Convolutional networks as torchvision, timm and transformers build them, with modules whose outputs are taps."""

from collections.abc import Callable
from typing import Any

import timm
import torch
import torchvision
import transformers

STAGES = ("stage1", "stage2", "stage3", "stage4", "stage5")


def stages(names: str, first: int = 0, count: int = 4, step: int = 1) -> dict[str, str]:
    """Modules of numbered stages by tap."""
    return {STAGES[index]: names.format(first + step * index) for index in range(count)}


RESNET = {"stem": "maxpool"} | stages("layer{}", 1)
SHUFFLENET = {"stem": "maxpool", "final": "conv5"} | stages("stage{}", 2, 3)
CONVNEXT = {
    "torchvision": {"stem": "features.0"} | stages("features.{}", 1, step=2),
    "timm": {"stem": "stem"} | stages("stages.{}"),
}
MOBILENET = {
    "torchvision": {"stem": "features.0", "stage1": "features.3", "stage2": "features.6", "stage3": "features.13"}
    | {"stage4": "features.17", "final": "features.18"},
    "timm": {"stem": "bn1", "stage1": "blocks.1", "stage2": "blocks.2", "stage3": "blocks.4", "stage4": "blocks.6"}
    | {"final": "bn2"},
}


def vgg_taps(model: torch.nn.Module, hidden: str) -> dict[str, str]:
    """The layer before each pooling, and the hidden layers."""
    pools = [place for place, layer in enumerate(model.features) if isinstance(layer, torch.nn.MaxPool2d)]
    return {tap: f"features.{place - 1}" for tap, place in zip(STAGES, pools, strict=True)} | {"hidden1": hidden}


def small_resnet(block: Any, **fields: Any) -> torch.nn.Module:
    """A ResNet of one block a stage."""
    return torchvision.models.resnet.ResNet(block, [1, 1, 1, 1], num_classes=5, **fields)


def small_vgg(norm: bool) -> torch.nn.Module:
    """torchvision's VGG-11 of few channels and few hidden units."""
    layers = [4, "M", 6, "M", 8, 8, "M", 8, 8, "M", 8, 8, "M"]
    model = torchvision.models.vgg.VGG(torchvision.models.vgg.make_layers(layers, norm), 5)
    model.classifier[0] = torch.nn.Linear(8 * 7 * 7, 12)
    model.classifier[3] = torch.nn.Linear(12, 12)
    model.classifier[6] = torch.nn.Linear(12, 5)
    return model


def small_timm_vgg() -> torch.nn.Module:
    """timm's VGG-11 of few channels and few hidden units."""
    layers = [4, "M", 6, "M", 8, 8, "M", 8, 8, "M", 8, 8, "M"]
    model = timm.models.vgg.VGG(layers, num_classes=5)
    model.pre_logits = timm.models.vgg.ConvMlp(8, 12, 7, act_layer=torch.nn.ReLU)
    model.head.fc = torch.nn.Linear(12, 5)
    return model


def small_convnext() -> torch.nn.Module:
    """torchvision's ConvNeXt of few channels."""
    config = torchvision.models.convnext.CNBlockConfig
    return torchvision.models.ConvNeXt([config(6, 10, 1), config(10, None, 2)], num_classes=5)


HF_RESNET = dict(embedding_size=4, hidden_sizes=[16, 32], depths=[2, 1], num_labels=3)
HF_CONVNEXT = dict(hidden_sizes=[6, 10], depths=[1, 2], num_stages=2, num_labels=3)

SMALL: dict[str, tuple[Callable[[], torch.nn.Module], dict[str, str]]] = {
    "resnet_basic": (lambda: small_resnet(torchvision.models.resnet.BasicBlock), RESNET),
    "resnext": (
        lambda: small_resnet(torchvision.models.resnet.Bottleneck, groups=8, width_per_group=4),
        RESNET,
    ),
    "resnet_hf": (
        lambda: hf("ResNet", layer_type="bottleneck", downsample_in_bottleneck=True, **HF_RESNET),
        {"stem": "resnet.embedder"} | stages("resnet.encoder.stages.{}", count=2),
    ),
    "vgg_bn": (lambda: small_vgg(True), {}),
    "vgg_timm": (small_timm_vgg, {}),
    "mobilenet_v2_timm": (
        lambda: timm.models.efficientnet._gen_mobilenet_v2("mobilenetv2_100", 0.1, 0.1, num_classes=5),
        MOBILENET["timm"],
    ),
    "shufflenet_v2": (lambda: torchvision.models.ShuffleNetV2([2, 1, 1], [24, 8, 12, 16, 20], 5), SHUFFLENET),
    "convnext": (small_convnext, {"stem": "features.0"} | stages("features.{}", 1, 2, 2)),
    "convnext_timm": (
        lambda: timm.models.ConvNeXt(depths=(1, 1, 1, 1), dims=(4, 6, 8, 10), num_classes=5, conv_mlp=True),
        CONVNEXT["timm"],
    ),
    "convnext_hf": (
        lambda: hf("ConvNext", **HF_CONVNEXT),
        {"stem": "convnext.embeddings"} | stages("convnext.encoder.stages.{}", count=2),
    ),
}
"""Small networks: how to build them, and modules by tap; those of VGG follow from its layers."""

NAMES: dict[str, Callable[[], torch.nn.Module]] = {
    "mobilenet_v2_names": lambda: torchvision.models.mobilenet_v2(width_mult=0.1),
    "resnet_names": lambda: timm.create_model("resnet50"),
}
"""Networks of which names and shapes alone are stored."""


def hf(family: str, **keys: Any) -> torch.nn.Module:
    """A classifier of images of transformers."""
    config = getattr(transformers, f"{family}Config")(**keys)
    return getattr(transformers, f"{family}ForImageClassification")(config)


def taps_of(model: torch.nn.Module, taps: dict[str, str]) -> dict[str, str]:
    """The modules of a network by tap."""
    if not taps and hasattr(model, "features"):
        return vgg_taps(model, "classifier.1" if hasattr(model, "classifier") else "pre_logits.act1")
    return taps


def compute(model: torch.nn.Module, taps: dict[str, str], images: Any) -> dict[str, Any]:
    """The logits and the taps, channels last, of a network for images `[batch, height, width, 3]`."""
    outputs: dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any, output: Any) -> None:
            x = getattr(output, "last_hidden_state", output).detach().clone()
            outputs[name] = (x.permute(0, 2, 3, 1) if x.ndim == 4 else x).numpy()

        return hook

    modules = dict(model.named_modules())
    for name, path in taps_of(model, taps).items():
        modules[path].register_forward_hook(keep(name))
    with torch.no_grad():
        x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        result = model.eval().to(x.dtype)(x)
    outputs["logits"] = getattr(result, "logits", result).numpy()
    return {name: x[:, 0, 0] if name == "hidden1" and x.ndim == 4 else x for name, x in outputs.items()}


def set_weights(model: torch.nn.Module, draw_all: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """Draws the weights of a network, and returns its tensors by name."""
    drawn = draw_all({name: tuple(x.shape) for name, x in model.state_dict().items()})
    model.load_state_dict({name: torch.from_numpy(x) for name, x in drawn.items()}, strict=False)
    return drawn
