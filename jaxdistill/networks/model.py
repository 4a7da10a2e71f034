"""Models of networks from a config: the module, and the preprocessing of its images."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxdistill.compress.views import Views
from jaxdistill.config import registry
from jaxdistill.config.members import OptimizerConfig, ScheduleConfig, ViewConfig
from jaxdistill.config.nested_model import NestedModel
from jaxdistill.config.parse import option
from jaxdistill.errors import UserError
from jaxdistill.modules.preprocess import Preprocess, preprocess
from jaxdistill.networks.options import required
from jaxdistill.networks.source import Context


@dataclasses.dataclass(frozen=True)
class PreprocessSettings:
    """Images that a network expects; by default those that it was trained on."""

    size: int = option(0, "side in pixels; 0 for that of the training images", least=0)
    channels: int = option(0, "1 or 3; 0 for those of the training images", least=0)
    mean: tuple[float, ...] = option((), "mean by channel; that of the training images if empty")
    std: tuple[float, ...] = option((), "standard deviation by channel; that of the training images if empty")


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """Config keys of a network with a model, besides the fields of the model.

    A network may be trained in one stage and frozen in another, so the keys of both are permitted in either.
    """

    model: str = required("model by name")
    dtype: str = option("float32", "dtype of the computation, float32 or bfloat16")
    classes: int = option(0, "number of outputs; 0 for the classes of the data", least=0)
    keep_classes: int = option(0, "number of first outputs to keep, of a padded vocabulary; 0 for all", least=0)
    head: str = option("", "'new' for a head with fresh weights on those of 'weights'", choices=("", "new"))
    blocks: tuple[int, ...] = option((), "blocks of 'weights' that those of the network start from; all if empty")
    part: str = option("", "part of the network that 'weights' are of, such as 'encoder'; all else is fresh")
    train: str = option("", "regular expression of the paths of its parameters that learn; all if empty")
    optimizer: OptimizerConfig | None = option(None, "its optimizer if it learns; the stage's if not set")
    learning_rate: ScheduleConfig | None = option(None, "its learning rate if it learns; the stage's if not set")
    preprocess: PreprocessSettings = option(PreprocessSettings, "images that the network expects")
    compress: dict[str, ViewConfig] = option(dict, "views of the params by name, such as a pruned or quantized one")
    offload: bool = option(False, "whether frozen weights are held in the host's memory", free=True)
    fold: bool = option(True, "whether BatchNorms of a frozen network are folded into convolutions")
    quantize: str = option("", "'int8' for weights and activations of a frozen network in 8 bits")


def build_module(name: str, settings: ModelSettings, fields: Mapping[str, Any], context: Context) -> nn.Module:
    """Makes the module of a network.

    Args:
        name: of the network.
        settings: its parsed keys.
        fields: raw values of fields of the model.
        context: the data of the stage.

    Raises:
        UserError: for a model that does not exist or reads other data, and for a key that it does not have.
    """
    member = registry.find("model", settings.model, f"networks.{name}.model")
    # The classes of a model of texts without a field `vocabulary` are the tokens.
    over_tokens = inputs_of(member)[0] == "tokens" and "vocabulary" not in registry.fields(member)
    classes = settings.classes or (context.vocabulary if over_tokens else 0) or context.classes
    if not classes:
        raise UserError(
            f"networks.{name}.classes must be set, got 0. {context.dataset!r} has no labels whose classes could be"
            " counted"
        )
    dtype = registry.dtype(settings.dtype)
    try:
        nested = {key: make_encoder(key, fields[key], dtype) for key in getattr(member, "nested", ()) if key in fields}
        return registry.make("model", settings.model, {**fields, **nested}, classes=classes, dtype=dtype)
    except UserError as error:
        raise UserError(f"networks.{name}: {error}") from error


def make_encoder(key: str, config: NestedModel, dtype: Any) -> nn.Module:
    """Makes a model without its classifier, the part `key` of another model.

    Raises:
        UserError: for a model of other inputs than images, or one that has a part of its own.
    """
    member = registry.find("model", config.model)
    if inputs_of(member)[0] != "image" or getattr(member, "nested", ()):
        raise UserError(f"{key}.model must be a classifier of images, got {config.model!r}. Use one such as 'resnet'")
    return registry.make("model", config.model, config.fields, classes=0, dtype=dtype)


def build_views(configs: Mapping[str, ViewConfig]) -> Views:
    """Makes the views of a network."""
    return Views.of({name: registry.find("view", config.view)(**config.fields) for name, config in configs.items()})


def inputs_of(module: Any) -> tuple[str, ...]:
    """Returns the fields of a batch that a module, or its class, takes: the images unless it names others."""
    return getattr(module, "inputs", ("image",))


def build_preprocess(name: str, settings: PreprocessSettings, context: Context) -> Preprocess | None:
    """Makes the preprocessing of a network: as its entry sets it, else to the images that it was trained on.

    Raises:
        UserError: if the data have no images, or channels, mean and std do not fit.
    """
    path = f"networks.{name}.preprocess"
    if context.images is None:
        if settings != PreprocessSettings():
            noun = "texts" if context.vocabulary else "features"
            raise UserError(f"{path} must be absent, since {context.dataset!r} has {noun}, got {settings}. Remove it")
        return None
    expected = context.trained_on.get(name, context.images)
    if settings.size and context.keeps_size:
        raise UserError(
            f"{path}.size must be 0, since predictions are of places in the images of {context.dataset!r}, got"
            f" {settings.size}. Set data.size for all networks"
        )
    own_size = context.images.shape[:2] if context.keeps_size else expected.shape[:2]
    size = (settings.size, settings.size) if settings.size else own_size
    channels = settings.channels or expected.shape[-1]
    if channels != expected.shape[-1] and not (settings.mean and settings.std):
        raise UserError(f"{path}.channels must come with mean and std of as many numbers, got {channels} alone")
    mean, std = settings.mean or expected.mean, settings.std or expected.std
    if not len(mean) == len(std) == channels or min(std) <= 0 or not all(map(math.isfinite, (*mean, *std))):
        raise UserError(f"{path} must have mean and std of {channels} numbers, std above 0, got {mean} and {std}")
    try:
        wanted = dataclasses.replace(expected, shape=(*size, channels), mean=tuple(mean), std=tuple(std))
        return preprocess(context.images, wanted)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
