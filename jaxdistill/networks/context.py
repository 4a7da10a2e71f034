"""The data of a stage, as far as sources are built for it."""

import dataclasses
from collections.abc import Callable, Mapping

import flax.linen as nn

from jaxdistill.modules.preprocess import ImageSpec


@dataclasses.dataclass(frozen=True)
class Context:
    """The data of a stage, as far as sources are built for it.

    Attributes:
        classes: number of classes.
        images: shape and standardisation of the images; `None` for texts.
        dataset: name of the dataset, for messages.
        input: the field of a batch that networks take by default.
        vocabulary: number of tokens of texts.
        trained_on: images that networks with weights were trained on, by name.
        check_model: raises `UserError` for a module that does not fit the task, `check_model(network, model, module,
            input)`.
        cached_classes: number of classes of cached outputs, by name of the network.
    """

    classes: int
    images: ImageSpec | None
    dataset: str = ""
    input: str = "image"
    vocabulary: int = 0
    trained_on: Mapping[str, ImageSpec] = dataclasses.field(default_factory=dict)
    check_model: Callable[[str, str, nn.Module, str], None] = lambda network, model, module, field: None
    cached_classes: Mapping[str, int] = dataclasses.field(default_factory=dict)
