"""A network that leaves, with the contents of its folder."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxdistill.compress.packing import StoredIntegers
from jaxdistill.compress.quantize import Quantize
from jaxdistill.core import Variables
from jaxdistill.export.predictor import Predictor
from jaxdistill.export.weights import Weights, make_weights
from jaxdistill.modules.preprocess import ImageSpec


@dataclasses.dataclass(frozen=True)
class Exported:
    """A finished network.

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
        predictor: the network on raw inputs.
        bits: of its kernels and embeddings in the file; 0 for float32.
        integers: those of a network that was trained in few bits, by flat name.
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
    predictor: Predictor | None = None
    bits: int = 0
    integers: Mapping[str, StoredIntegers] = dataclasses.field(default_factory=dict)

    @property
    def tokenizer_path(self) -> pathlib.Path | None:
        """The place of the tokenizer's files."""
        return pathlib.Path(self.tokenizer.removeprefix("hf:")).expanduser() if self.tokenizer else None

    @property
    def trained_bits(self) -> list[int]:
        """Bits of the views that quantize."""
        views = self.predictor.source.views.entries if self.predictor else ()
        return [view.bits for _, view in views if isinstance(view, Quantize)]

    @functools.cached_property
    def weights(self) -> Weights:
        """The arrays of its file by flat name."""
        return make_weights(self.variables, self.bits, self.integers)
