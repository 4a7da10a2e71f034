"""Stages of kind "classifier": teachers of scikit-learn, or any class with `fit` and `predict_proba`.

It is fitted on what the stage sees of the training split (its part, its visible labels; unaugmented images as rows of
numbers in [0, 1]) and asked about every example of all splits, in the views that `cache` and `data.augment` tell. What
it says is kept as a cache, log-probabilities, which networks dict(source="cached") read; nothing else is, so there
is nothing to unpickle. A cache that was cut off is gone on with after fitting anew, which `random_state`, the stage's
seed, makes the same where scikit-learn promises that.
"""

import importlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.build.stage import Stage
from jaxdistill.core import UNLABELLED, Output
from jaxdistill.data import augment, loader
from jaxdistill.data.output_cache import Cache
from jaxdistill.errors import UserError, check_between, unknown
from jaxdistill.runtime import files
from jaxdistill.stages import cache as caching

NAMED = {
    "forest": "sklearn.ensemble.RandomForestClassifier",
    "boosting": "sklearn.ensemble.HistGradientBoostingClassifier",
    "logistic": "sklearn.linear_model.LogisticRegression",
    "neighbours": "sklearn.neighbors.KNeighborsClassifier",
    "svm": "sklearn.svm.SVC",
}
"""Short names. "svm" is `SVC` with scores made probabilities by `CalibratedClassifierCV`, as scikit-learn advises."""


def make(stage: Stage) -> Any:
    """Returns the classifier, not fitted.

    Raises:
        UserError: for a class or a setting that is not there, and a class that tells no probabilities.
    """
    spec = stage.settings["classifier"]
    what, path = f"stage {stage.name!r}: classifier.name={spec['name']!r}", NAMED.get(spec["name"], spec["name"])
    check_between(f"stage {stage.name!r}: classifier.floor", spec["floor"], 1e-30, 0.1)
    module, _, name = path.rpartition(".")
    if not module:
        raise unknown(f"classifier for stage {stage.name!r}", spec["name"], [*NAMED, "package.module.Class"])
    try:
        member = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{what}: {error}; take one of {sorted(NAMED)}, or the path of a class") from error
    known = member._get_param_names() if hasattr(member, "_get_param_names") else None
    for key in spec["settings"] if known is not None else ():
        if key not in known:
            raise unknown(f"setting of {path} for stage {stage.name!r}, classifier.settings", key, known)
    seeded = {"random_state": stage.settings["seed"]} if known and "random_state" in known else {}
    try:
        made = member(**seeded | dict(spec["settings"]))
        if spec["name"] == "svm":
            from sklearn.calibration import CalibratedClassifierCV

            made = CalibratedClassifierCV(made, ensemble=False)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} refuses {dict(spec['settings'])}: {error}") from error
    if not hasattr(made, "fit") or not hasattr(made, "predict_proba"):
        raise UserError(f"{what} has no fit or no predict_proba; a teacher tells probabilities, like {sorted(NAMED)}")
    return made


def told(stage: Stage) -> dict[str, Any]:
    """What determines the answers, in plain words: the class, its settings, and what it is fitted on."""
    import sklearn

    spec, split = stage.settings["classifier"], stage.train
    labels = split.labels()
    index = split.index(np.arange(len(split)))
    digest = files.digest(np.ascontiguousarray(index).tobytes(), np.ascontiguousarray(labels).tobytes())
    settings = {key: list(x) if isinstance(x, tuple) else x for key, x in spec["settings"].items()}
    return {
        "classifier": spec["name"],
        "settings": settings,
        "floor": spec["floor"],
        "seed": stage.settings["seed"],
        "fitted on": f"{int((labels != UNLABELLED).sum())} labels of {len(split)} examples, {digest}",
        "scikit-learn": sklearn.__version__,
    }


def fitted(stage: Stage, classifier: Any) -> Any:
    """Fits a classifier on the labelled examples that the stage sees.

    Raises:
        UserError: where it cannot be.
    """
    split = stage.train
    known = np.flatnonzero(split.labels() != UNLABELLED)
    if not len(known):
        raise UserError(f"stage {stage.name!r}: no label is visible, so there is nothing to fit; see data.labels")
    batch = split.take(known)
    try:
        return classifier.fit(_rows(_unit(batch["image"])), batch["label"])
    except ValueError as error:
        name, why = stage.settings["classifier"]["name"], " ".join(str(error).split())[:300]
        raise UserError(f"stage {stage.name!r}: classifier {name!r} cannot be fitted: {why}") from error


def _unit(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images


def _rows(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def log_probabilities(classifier: Any, images: np.ndarray, classes: int, floor: float) -> np.ndarray:
    """Returns float32 `[n, classes]`; a probability below `floor`, as of a class that was never seen, is `floor`."""
    logs = np.full((len(images), classes), math.log(floor), np.float32)
    said = classifier.predict_proba(_rows(images))
    logs[:, np.asarray(classifier.classes_, int)] = np.log(np.maximum(said, floor))
    return logs


def asker(stage: Stage, classifier: Any) -> caching.Ask:
    """Asks a fitted classifier, in each process by itself."""
    data, spec, classes = stage.settings["data"], stage.settings["cache"], stage.dataset.classes
    channels, seed = stage.dataset.shape[-1], stage.data_seed
    unit = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    change = jax.jit(lambda batch: augment.build(data["augment"], seed=seed, classes=classes, **unit)(batch)["image"])
    floor = stage.settings["classifier"]["floor"]

    def ask(role, index, view):
        said = []
        for start in range(0, len(index), stage.evaluation_batch):
            rows = slice(start, start + stage.evaluation_batch)
            batch = loader.rows(stage.whole(role), classes, index[rows], view[rows])
            batch |= {"mask": np.ones(len(batch["index"]), np.float32)}
            # As it was fitted: a tree may split at the very grey value that a pixel has, and XLA divides otherwise.
            images = np.asarray(change(batch)) if role == "train" and data["augment"] else _unit(batch["image"])
            logs = log_probabilities(classifier, images, classes, floor)
            said.append(jax.device_get(caching.stored(Output(jnp.asarray(logs)), spec)))
        return {name: np.concatenate([part[name] for part in said]) for name in said[0]}

    return ask


def run(stage: Stage, cache: Cache, say: Callable[[str], None]) -> dict[str, Any]:
    """Fits the classifier of a stage and writes what it says; returns what is told in `done.json`."""
    done = caching.fill(cache, lambda: asker(stage, fitted(stage, make(stage))), say)
    role = stage.settings["evaluate"]["split"]
    return done | ({"accuracy": _accuracy(stage, cache, role), "split": role} if role in cache.header.splits else {})


def _accuracy(stage: Stage, cache: Cache, role: str) -> float:
    said = cache.load_all(role)
    best = said["logits"].astype(np.float32).argmax(-1) if "logits" in said else said["ids"][..., 0]
    return float(np.mean(best[:, 0] == stage.dataset.split(role).labels()))
