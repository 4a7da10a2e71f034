"""Prepared TFDS datasets of a few examples as ArrayRecord, written without TensorFlow."""

import io
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

SHAPE, CLASSES, ROWS = (8, 6, 1), ("cat", "dog", "owl"), {"train": 30, "test": 9}
TEXTS = {"train": ["a first line", "and a second"], "test": ["abcdefgh"]}


def images(role: str) -> np.ndarray:
    """Returns the images of a split of `tiny_images`, uint8 `[n, *SHAPE]`."""
    return np.random.default_rng(ROWS[role]).integers(0, 256, (ROWS[role], *SHAPE), np.uint8)


def prepare_dense(folder: pathlib.Path) -> None:
    """Writes `tiny_dense`: images with masks of the values 0 to 2 and 9, and with as many objects as their number."""
    from tensorflow_datasets import features

    def make_features() -> Mapping[str, Any]:
        objects = {
            "bbox": features.BBoxFeature(),
            "label": features.ClassLabel(names=["a", "b"]),
            "is_crowd": features.Scalar(dtype=np.bool_),
        }
        return {
            "image": features.Image(shape=SHAPE),
            "segmentation_mask": features.Image(shape=SHAPE),
            "objects": features.Sequence(objects),
        }

    def example(number: int) -> Mapping[str, Any]:
        mask = np.full(SHAPE, number % 3, np.uint8)
        mask[0] = 9
        box = features.BBox(ymin=0.25, xmin=0.0, ymax=1.0, xmax=0.5)
        objects = [{"bbox": box, "label": i % 2, "is_crowd": i == 2} for i in range(number % 4)]
        return {"image": encode(mask), "segmentation_mask": encode(mask), "objects": objects}

    splits = {role: [example(number) for number in range(4)] for role in ("train", "validation")}
    _write(folder, "TinyDense", make_features, splits)


def prepare(folder: pathlib.Path) -> None:
    """Writes `tiny_images`, `tiny_text` and `tiny_pairs`, a dataset of two texts."""
    from tensorflow_datasets import features

    rows = {role: [(image, index % 3) for index, image in enumerate(images(role))] for role in ROWS}
    labelled = {
        role: [{"image": encode(image), "label": label} for image, label in examples] for role, examples in rows.items()
    }

    def label() -> Any:
        return features.ClassLabel(names=[*CLASSES])

    _write(folder, "TinyImages", lambda: {"image": features.Image(shape=SHAPE), "label": label()}, labelled)
    texts = {role: [{"text": text} for text in examples] for role, examples in TEXTS.items()}
    _write(folder, "TinyText", lambda: {"text": features.Text()}, texts)
    pairs = {role: [{"text": text, "label": 0} for text in examples] for role, examples in TEXTS.items()}
    _write(folder, "TinyPairs", lambda: {"text": features.Text(), "label": label()}, pairs)


def prepare_routed(folder: pathlib.Path) -> None:
    """Writes `tiny_routed`: 6 and 3 images of one value, their number, of which further features follow."""
    from tensorflow_datasets import features

    def make_features() -> Mapping[str, Any]:
        return {
            "image": features.Image(shape=SHAPE),
            "label": features.ClassLabel(names=[*CLASSES]),
            "site": features.Text(),
            "year": features.Scalar(dtype=np.int64),
            "weight": features.Scalar(dtype=np.float32),
            "camera": features.ClassLabel(names=["left", "right"]),
        }

    def example(number: int) -> Mapping[str, Any]:
        image = encode(np.full(SHAPE, number, np.uint8))
        camera = -1 if number == 8 else number % 2
        site = {7: "", 6: b"\xff"}.get(number, "ab"[number % 2])
        row = {"image": image, "label": number % 3, "site": site, "year": 2000 + number % 2}
        return row | {"weight": 0.5, "camera": camera}

    splits = {"train": [example(number) for number in range(6)], "test": [example(number) for number in range(6, 9)]}
    _write(folder, "TinyRouted", make_features, splits)


def encode(image: np.ndarray) -> io.BytesIO:
    """Returns an image as PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0]).save(file, "png")
    file.seek(0)
    return file


def _write(
    folder: pathlib.Path,
    name: str,
    features: Callable[[], Mapping[str, Any]],
    splits: Mapping[str, list[Mapping[str, Any]]],
) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    tfds.disable_progress_bar()

    def info(builder: Any) -> Any:
        keys = ("image", "label") if "label" in features() and "image" in features() else None
        return tfds.core.DatasetInfo(
            builder=builder, features=tfds.features.FeaturesDict(features()), supervised_keys=keys
        )

    def generators(builder: Any, manager: Any) -> Mapping[str, Any]:
        return {role: iter(enumerate(examples)) for role, examples in splits.items()}

    members = {
        "__module__": __name__,
        "VERSION": tfds.core.Version("1.0.0"),
        "_info": info,
        "_split_generators": generators,
        "_generate_examples": lambda self: None,
    }
    with registered.skip_registration():
        builder = type(name, (tfds.core.GeneratorBasedBuilder,), members)
    builder(data_dir=str(folder), file_format="array_record").download_and_prepare()
