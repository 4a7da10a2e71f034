"""A network as a pure function of raw inputs, and its description as JSON."""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.compress.views import Finished
from jaxdistill.config import registry
from jaxdistill.config.members import ViewConfig
from jaxdistill.config.parse import plain
from jaxdistill.core import Batch, Variables
from jaxdistill.data import augment
from jaxdistill.errors import UserError
from jaxdistill.export.signature import PROBABILITIES, Signature
from jaxdistill.modules import nms
from jaxdistill.modules.preprocess import ImageSpec, Preprocess
from jaxdistill.networks import Frozen
from jaxdistill.networks.model import build_views


@dataclasses.dataclass(frozen=True)
class Predictor:
    """A network from raw inputs to logits.

    Attributes:
        name: of the network in its run.
        model: the name of its model.
        source: the network.
        signature: its raw inputs.
        images: shape and standardisation of the images of the data; `None` for texts and tables.
        compress: the views of the network as the config has them.
    """

    name: str
    model: str
    source: Frozen
    signature: Signature
    images: ImageSpec | None = None
    compress: Mapping[str, ViewConfig] = dataclasses.field(default_factory=dict)

    def finished(self, variables: Variables) -> tuple["Predictor", dict[str, Any]]:
        """Returns the same function with final variables, which views no longer change."""
        if not self.source.views:
            return self, dict(variables)
        views, variables = self.source.views.finished(variables)
        return dataclasses.replace(self, source=dataclasses.replace(self.source, views=views)), variables

    def logits(self, variables: Variables, batch: Batch) -> jax.Array:
        """Returns `[n, classes]` (of tokens `[n, length, classes]`), float32, from raw arrays by name; pure.

        A detector has boxes and scores in their place (`nms.join`), before suppression.
        """
        output, _ = self.source(variables, self._standardized(batch), {}, None)
        return nms.join(output) if self.signature.predictions == "boxes" else core.dense(output.logits)

    def _standardized(self, batch: Batch) -> Batch:
        return batch if self.images is None else augment.plain(self.images.mean, self.images.std)(batch)

    def prepared(self, batch: Batch) -> jax.Array:
        """Returns the main input of the module: images standardised and of the size that it takes, or tokens."""
        return self.source.main_input(self._standardized(batch))

    def outputs(self, variables: Variables, batch: Batch) -> jax.Array:
        """Returns the output of an exported file: probabilities, or values as `logits` has them if there are none."""
        logits = self.logits(variables, batch)
        return PROBABILITIES.get(self.signature.predictions, lambda values: values)(logits)

    def to_json(self) -> dict[str, Any]:
        """Returns the description of the network, from which `parse` makes it.

        Raises:
            UserError: for a model with a field that JSON does not have.
        """
        module, preprocess = self.source.module, self.source.preprocess
        assert preprocess is None or isinstance(preprocess, Preprocess)
        return {
            "network": self.name,
            "model": self.model,
            "fields": {name: _json_of(f"{self.model}.{name}", value) for name, value in fields_of(module).items()},
            "dtype": jnp.dtype(getattr(module, "dtype", None) or jnp.float32).name,
            "input": self.source.input,
            "class_order": list(self.source.class_order),
            "images": dataclasses.asdict(self.images) if self.images else None,
            "preprocessing": dataclasses.asdict(preprocess.wanted) if preprocess else None,
            "compress": plain(self.compress),
            **self.signature.to_json(),
        }

    @classmethod
    def parse(cls, raw: Mapping[str, Any], folder: pathlib.Path) -> "Predictor":
        """Makes the network that `to_json` has described; other files of its export are in a folder.

        Raises:
            UserError: for a model that does not exist here.
        """
        fields = {name: _tuples(value) for name, value in raw["fields"].items()}
        classes, dtype = fields.pop("classes"), registry.dtype(raw["dtype"])
        module = registry.make("model", raw["model"], fields, classes=classes, dtype=dtype)
        images = ImageSpec.parse(raw["images"]) if raw["images"] else None
        wanted = ImageSpec.parse(raw["preprocessing"]) if raw["preprocessing"] else None
        signature = Signature.parse(raw, folder)
        compress = {name: ViewConfig.parse(view, f"compress.{name}") for name, view in raw["compress"].items()}
        source = Frozen(
            module,
            input=raw["input"],
            preprocess=Preprocess(images, wanted) if images and wanted else None,
            class_names=signature.class_names,
            class_order=tuple(raw["class_order"]),
            views=Finished(build_views(compress).entries),
        )
        return cls(raw["network"], raw["model"], source, signature, images=images, compress=compress)


def fields_of(module: nn.Module) -> dict[str, Any]:
    """Returns the fields of a module by which a config makes it, the classes among them."""
    names = [field.name for field in dataclasses.fields(module) if field.init]
    return {name: getattr(module, name) for name in names if name not in ("parent", "name", "dtype")}


def _json_of(path: str, value: Any) -> Any:
    """Returns a value as JSON has it, or raises `UserError`."""
    if isinstance(value, tuple | list):
        return [_json_of(path, item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _json_of(path, item) for key, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise UserError(
        f"{path} must be a number, a text or a tuple for an export that is read again, got {value!r}. Take the format"
        " 'stablehlo'"
    )


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
