"""A network that leaves, with the facts of its run."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxdistill.core import Variables
from jaxdistill.modules.preprocess import ImageSpec


@dataclasses.dataclass(frozen=True)
class Exported:
    """A network that leaves.

    Attributes:
        name: of the network in the run.
        model: the name of its model.
        module: the network.
        variables: on the host.
        class_names: in the order of its logits; none if they are numbers.
        image_spec: the images that it expects; `None` for texts.
        tokenizer: the folder or file of its tokenizer; "" for none.
        facts: the rows of the model card by title.
        results: the rows of `results.json`, if the run has any.
    """

    name: str
    model: str
    module: nn.Module
    variables: Variables
    class_names: tuple[str, ...] = ()
    image_spec: ImageSpec | None = None
    tokenizer: str = ""
    facts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    results: tuple[Mapping[str, Any], ...] = ()

    @property
    def tokenizer_path(self) -> pathlib.Path | None:
        """The place of the tokenizer's files."""
        return pathlib.Path(self.tokenizer.removeprefix("hf:")).expanduser() if self.tokenizer else None
