"""Stages of kind "logits": a teacher's outputs made elsewhere, read from a file and stored as a cache.

    file.npz       train_logits [examples, classes], and validation_logits, test_logits as far as they are stored;
                   train_id [examples] if the rows are in another order than the examples; class_names [classes]
    file.parquet   a row for each example, or a folder of such files: `logits` (a list), `id`, and `split`, which is
                   train if the column is missing

An id is the position of an example in its split, `jaxdistill.load_dataset(...).splits[...]`. Of next tokens the logits
are `[examples, length, classes]`. Networks of source "cached" read the stage like a stage that caches. The logits are
of the examples without augmentation.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.config.parse import option
from jaxdistill.config.schema import CacheConfig, StageSettings
from jaxdistill.core import Output
from jaxdistill.data import logit_files
from jaxdistill.data.output_cache import Cache, Header
from jaxdistill.errors import UserError, check_between
from jaxdistill.runtime import files
from jaxdistill.stages import output_writer


@dataclasses.dataclass(frozen=True)
class LogitsConfig:
    path: str = option("", "file of the logits: .npz, .parquet, or a folder of .parquet files")
    form: str = option("logits", "values of the file", choices=("logits", "probabilities"))
    min_probability: float = option(1e-6, "lower bound of a probability")


@dataclasses.dataclass(frozen=True)
class LogitsSettings(StageSettings):
    """Settings of a stage that reads logits from a file."""

    logits: LogitsConfig = option(LogitsConfig, "the file")
    cache: CacheConfig = option(CacheConfig, "the cache")


class Logits(Kind):
    """Stores logits that were made elsewhere."""

    settings = LogitsSettings
    stores_outputs = True
    needs_networks = False
    selects_examples = False

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        return []

    def check(self, stage: Stage) -> None:
        name, data = f"stages.{stage.name}", stage.settings.data
        if data.augment:
            raise UserError(
                f"{name}.data.augment must be (), got {tuple(data.augment)}: the logits of a file are of the examples"
                " as they are. Set it to () here, and for the stage that reads the cache"
            )
        check_between(f"{name}.logits.min_probability", stage.settings.logits.min_probability, 1e-30, 0.1)
        super().check(stage)
        self.cache_header(stage)

    def cache_header(self, stage: Stage) -> Header:
        return _open_cache(stage, pathlib.Path()).header

    def describe(self, stage: Stage) -> list[str]:
        return [output_writer.describe(self.cache_header(stage))]

    def is_done(self, stage: Stage, workdir: pathlib.Path) -> bool:
        return super().is_done(stage, workdir) and output_writer.is_complete(_open_cache(stage, workdir))

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        return output_writer.fill(_open_cache(stage, workdir), lambda: _read_outputs(stage), log)


def _read_splits(stage: Stage) -> dict[str, np.ndarray]:
    """Returns the logits `[examples, ..., classes]` of each split that the stage stores, by role."""
    path = files.input_path(f"stages.{stage.name}.logits.path", stage.settings.logits.path)
    lengths = {role: len(split) for role, split in stage.data.dataset.splits.items()}
    lengths["train"] = len(stage.data.base_split("train"))
    present = logit_files.read(path, lengths, stage.data.dataset.class_names)
    roles = stage.settings.cache.splits or [*present]
    missing = [role for role in roles if role not in present]
    if missing:
        raise UserError(
            f"stages.{stage.name}.cache.splits must be of {[*present]}, the splits of {path}, got {(*roles,)}. Remove"
            f" {missing}"
        )
    classes = stage.data.dataset.classes
    for role in roles:
        if present[role].shape[-1] != classes:
            raise UserError(
                f"{path} must have {classes} logits, one for each class of {stage.settings.data.name}, got"
                f" {list(present[role].shape)} of the {role} split. Leave out the others"
            )
    return {role: present[role] for role in roles}


def _open_cache(stage: Stage, workdir: pathlib.Path) -> Cache:
    splits = _read_splits(stage)
    spec = dataclasses.replace(stage.settings.cache, splits=tuple(splits))
    stage = dataclasses.replace(stage, settings=dataclasses.replace(stage.settings, cache=spec))
    shape = (stage.settings.batch, *next(iter(splits.values())).shape[1:])
    path = pathlib.Path(stage.settings.logits.path)
    teacher = {"file": path.name, "form": stage.settings.logits.form}
    teacher |= {f"{role} logits": files.digest(np.ascontiguousarray(x).tobytes()) for role, x in splits.items()}
    return output_writer.open_cache(stage, Output(jax.ShapeDtypeStruct(shape, jnp.float32)), teacher, workdir)


def _read_outputs(stage: Stage) -> output_writer.Predict:
    splits, settings = _read_splits(stage), stage.settings

    def predict(role: str, index: np.ndarray, view: np.ndarray) -> Mapping[str, np.ndarray]:
        values = jnp.asarray(splits[role][index], jnp.float32)
        if settings.logits.form == "probabilities":
            values = jnp.log(jnp.maximum(values, settings.logits.min_probability))
        return jax.device_get(output_writer.stored_arrays(Output(values), settings.cache, jnp.asarray(index)))

    return predict
