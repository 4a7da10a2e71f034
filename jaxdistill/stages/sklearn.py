"""Stages of kind "sklearn": teachers of scikit-learn, or any class with `fit` and `predict_proba`.

The classifier is fitted on the examples of the stage's training split (its part, its visible labels; features, or
unaugmented images as rows of numbers in [0, 1]) and evaluated on every example of all splits, images in the views of
`cache` and `data.augment`. Sparse features are fitted as they are. Log-probabilities are stored as a cache, which
networks dict(source="cached") read; nothing else is stored, so there is nothing to unpickle. An interrupted cache is
resumed after refitting, which `random_state`, the stage's seed, makes the same if scikit-learn guarantees that.
"""

import dataclasses
import importlib
import math
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.config.parse import option
from jaxdistill.config.schema import CacheConfig, StageSettings
from jaxdistill.core import UNLABELLED, Output
from jaxdistill.data import augment, loader, output_cache
from jaxdistill.data.output_cache import Header
from jaxdistill.errors import UserError, check_between, unknown
from jaxdistill.runtime import files, preemption
from jaxdistill.stages import output_writer

NAMED = {
    "forest": "sklearn.ensemble.RandomForestClassifier",
    "boosting": "sklearn.ensemble.HistGradientBoostingClassifier",
    "logistic": "sklearn.linear_model.LogisticRegression",
    "neighbours": "sklearn.neighbors.KNeighborsClassifier",
    "svm": "sklearn.svm.SVC",
}
"""Short names. "svm" is `SVC` with scores made probabilities by `CalibratedClassifierCV`, as scikit-learn advises."""


INPUTS = ("image", "features")
"""Fields of an example that a classifier takes, as a row of numbers."""


class Classifier(Protocol):
    """A classifier with the interface of scikit-learn."""

    classes_: np.ndarray

    def fit(self, rows: np.ndarray, labels: np.ndarray) -> Self: ...

    def predict_proba(self, rows: np.ndarray) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class SklearnConfig:
    name: str = option("forest", "classifier: a short name, or the path of a class")
    settings: dict[str, Any] = option(dict, "arguments of the class")
    min_probability: float = option(1e-6, "lower bound of a probability")


@dataclasses.dataclass(frozen=True)
class SklearnSettings(StageSettings):
    """Settings of a stage that fits a classifier and caches its outputs."""

    sklearn: SklearnConfig = option(SklearnConfig, "the classifier")
    cache: CacheConfig = option(CacheConfig, "the cache")


class Sklearn(Kind):
    """Fits a classifier and stores its log-probabilities."""

    settings = SklearnSettings
    stores_outputs = True
    needs_networks = False

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        return [(role, True, [*stage.networks]) for role in self.cache_header(stage).splits]

    def check(self, stage: Stage) -> None:
        task = stage.data.task
        if task.inputs[0] not in INPUTS or task.predictions != "classes":
            raise UserError(
                f"stage {stage.name!r} of kind 'sklearn' must have images or features with classes, got"
                f" {stage.data.dataset.name!r} with {[*task.fields]} (task {task.name!r}). Leave it out"
            )
        super().check(stage)
        make_classifier(stage)

    def cache_header(self, stage: Stage) -> Header:
        return output_writer.make_header(stage, _output_shapes(stage), {})

    def describe(self, stage: Stage) -> list[str]:
        return [output_writer.describe(self.cache_header(stage))]

    def is_done(self, stage: Stage, workdir: pathlib.Path) -> bool:
        return super().is_done(stage, workdir) and output_writer.is_complete(open_cache(stage, workdir))

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        cache = open_cache(stage, workdir)
        metadata = output_writer.fill(cache, lambda: class_outputs(stage, fit(stage, make_classifier(stage))), log)
        role = stage.settings.evaluate.split
        if role in cache.header.splits:
            metadata |= {"accuracy": _accuracy(stage, cache, role), "split": role}
            log(f"stage {stage.name}: accuracy {metadata['accuracy']:.4f} on the {role} split")
        return metadata


def open_cache(stage: Stage, workdir: pathlib.Path) -> output_cache.Cache:
    """Returns the cache that a stage writes, with what determines its classifier."""
    return output_writer.open_cache(stage, _output_shapes(stage), describe_teacher(stage), workdir)


def _output_shapes(stage: Stage) -> Output:
    return Output(jax.ShapeDtypeStruct((stage.settings.batch, stage.data.dataset.classes), jnp.float32))


def make_classifier(stage: Stage) -> Classifier:
    """Returns the classifier, not fitted.

    Raises:
        UserError: for a class or a setting that does not exist, and a class without probabilities.
    """
    spec = stage.settings.sklearn
    key, path = f"stage {stage.name!r}: sklearn.name={spec.name!r}", NAMED.get(spec.name, spec.name)
    check_between(f"stage {stage.name!r}: sklearn.min_probability", spec.min_probability, 1e-30, 0.1)
    module, _, name = path.rpartition(".")
    if not module:
        raise unknown(f"classifier for stage {stage.name!r}", spec.name, [*NAMED, "package.module.Class"])
    try:
        member = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{key}: {error}; take one of {sorted(NAMED)}, or the path of a class") from error
    options = member._get_param_names() if hasattr(member, "_get_param_names") else None
    for setting in spec.settings if options is not None else ():
        if setting not in options:
            raise unknown(f"setting of {path} for stage {stage.name!r}, sklearn.settings", setting, options)
    seeded = {"random_state": stage.settings.seed} if options and "random_state" in options else {}
    try:
        classifier = member(**seeded | dict(spec.settings))
        if spec.name == "svm":
            from sklearn.calibration import CalibratedClassifierCV

            classifier = CalibratedClassifierCV(classifier, ensemble=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{key} refuses {dict(spec.settings)}: {error}") from error
    if not hasattr(classifier, "fit") or not hasattr(classifier, "predict_proba"):
        raise UserError(
            f"{key} must have fit and predict_proba, because a teacher gives probabilities; take one of {sorted(NAMED)}"
        )
    return classifier


def describe_teacher(stage: Stage) -> dict[str, Any]:
    """Returns what determines the outputs, in plain words: the class, its settings, and its training examples."""
    import sklearn

    spec, split = stage.settings.sklearn, stage.data.train
    labels = split.labels()
    index = split.index(np.arange(len(split)))
    digest = files.digest(np.ascontiguousarray(index).tobytes(), np.ascontiguousarray(labels).tobytes())
    settings = {key: list(x) if isinstance(x, tuple) else x for key, x in spec.settings.items()}
    return {
        "classifier": spec.name,
        "settings": settings,
        "min_probability": spec.min_probability,
        "seed": stage.settings.seed,
        "fitted on": f"{int((labels != UNLABELLED).sum())} labels of {len(split)} examples, {digest}",
        "scikit-learn": sklearn.__version__,
    }


def fit(stage: Stage, classifier: Classifier) -> Classifier:
    """Fits a classifier on the labelled examples of the stage's training split.

    Raises:
        UserError: if no label is visible, or the classifier refuses the examples.
    """
    split = stage.data.train
    labelled = np.flatnonzero(split.labels() != UNLABELLED)
    if not len(labelled):
        raise UserError(
            f"stage {stage.name!r}: no label is visible, so there is nothing to fit; see data.labels_per_class"
        )
    if stage.data.dataset.is_sparse:
        rows = stage.data.dataset.split("train").features[split.index(labelled)]
    else:
        rows = _to_rows(split.take(labelled))
    try:
        with preemption.losing_nothing():
            return classifier.fit(rows, split.labels()[labelled])
    except (ValueError, TypeError) as error:
        name, reason = stage.settings.sklearn.name, " ".join(str(error).split())[:300]
        raise UserError(f"stage {stage.name!r}: classifier {name!r} cannot be fitted: {reason}") from error


def _to_rows(batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the examples of a raw batch as rows of numbers, those of images in [0, 1]."""
    if "features" in batch:
        return batch["features"]
    images = batch["image"]
    images = images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images
    return images.reshape(len(images), -1)


def log_probabilities(classifier: Classifier, rows: np.ndarray, classes: int, min_probability: float) -> np.ndarray:
    """Returns float32 `[n, classes]`; smaller probabilities, such as of a class without examples, are raised."""
    logs = np.full((len(rows), classes), math.log(min_probability), np.float32)
    probabilities = classifier.predict_proba(rows.reshape(len(rows), -1))
    logs[:, np.asarray(classifier.classes_, int)] = np.log(np.maximum(probabilities, min_probability))
    return logs


def class_outputs(stage: Stage, classifier: Classifier) -> output_writer.Predict:
    """Returns the function of the stored outputs of a fitted classifier; each process computes all of them."""
    data, spec, classes = stage.settings.data, stage.settings.cache, stage.data.dataset.classes
    augmented = _augmentation(stage) if data.augment else None
    min_probability = stage.settings.sklearn.min_probability

    def predict(role: str, index: np.ndarray, view: np.ndarray) -> dict[str, np.ndarray]:
        parts = []
        for start in range(0, len(index), stage.data.evaluation_batch_size):
            preemption.check()
            rows = slice(start, start + stage.data.evaluation_batch_size)
            batch = loader.take_rows(stage.data.base_split(role), classes, index[rows], view[rows])
            batch |= {"mask": np.ones(len(batch["index"]), np.float32)}
            # As it was fitted: a tree may split at the very grey value that a pixel has, and XLA divides otherwise.
            if role == "train" and augmented is not None:
                batch |= {"image": np.asarray(augmented(batch))}
            logs = log_probabilities(classifier, _to_rows(batch), classes, min_probability)
            output = Output(jnp.asarray(logs))
            parts.append(jax.device_get(output_writer.stored_arrays(output, spec, jnp.asarray(batch["index"]))))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    return predict


def _augmentation(stage: Stage) -> Callable[[Mapping[str, np.ndarray]], jax.Array]:
    """Returns the compiled augmentation of raw images, to images in [0, 1]."""
    channels = stage.data.dataset.shape[-1]
    unit = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    names, classes = stage.settings.data.augment, stage.data.dataset.classes
    return jax.jit(lambda batch: augment.build(names, seed=stage.data.seed, classes=classes, **unit)(batch)["image"])


def _accuracy(stage: Stage, cache: output_cache.Cache, role: str) -> float:
    arrays = cache.load_all(role)
    predictions = arrays["logits"].astype(np.float32).argmax(-1) if "logits" in arrays else arrays["ids"][..., 0]
    return float(np.mean(predictions[:, 0] == stage.data.dataset.split(role).labels()))
