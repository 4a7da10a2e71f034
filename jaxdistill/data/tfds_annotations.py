"""TFDS datasets of images with masks or boxes, found by their features.

The mask is the feature `segmentation_mask`, an image of one channel or a tensor, and the boxes are `objects`, a
sequence of dicts with a `BBoxFeature` and a `ClassLabel`; `data.label` names another feature. Objects with `is_crowd`
are regions of many. Those with `is_difficult`, of PASCAL VOC, are read as such regions, in which a detection is ignored
by its share inside; the challenge ignores it by its IoU (`data.readers.voc`).
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxdistill.data.annotated import (
    AnnotatedImage,
    AnnotatedSplit,
    Boxes,
    ExampleForm,
    choose_size,
    choose_values,
    largest_value,
)
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.dense import choose_annotations
from jaxdistill.data.tfds_examples import open_split, read_examples, read_feature
from jaxdistill.data.tfds_routes import read_feature_routes
from jaxdistill.errors import UserError, unknown

MASK, OBJECTS = "segmentation_mask", "objects"
ROLES = ("train", "validation", "test")
CROWDS = ("is_crowd", "is_difficult")


def annotations_of(features: Mapping[str, Any], settings: DatasetSettings) -> dict[str, str]:
    """Returns the features with masks and with boxes, by annotations; those that `data.label` names, if it does."""
    names = [name for name in ((settings.label,) if settings.label else (MASK, OBJECTS)) if name in features]
    masks = [name for name in names if type(features[name]).__name__ in ("Image", "LabeledImage", "Tensor")]
    boxes = [name for name in names if _box_keys(features[name])]
    return {kind: names[0] for kind, names in {"masks": masks, "boxes": boxes}.items() if names}


def _box_keys(feature: Any) -> tuple[str, str] | None:
    """Returns the keys of box and class in a sequence of objects; `None` for another feature."""
    inner = getattr(feature, "feature", None)
    if not hasattr(inner, "items"):
        return None
    kinds = {type(part).__name__: key for key, part in sorted(inner.items(), reverse=True)}
    return (kinds["BBoxFeature"], kinds["ClassLabel"]) if {"BBoxFeature", "ClassLabel"} <= {*kinds} else None


def read_annotations(builder: Any, settings: DatasetSettings) -> Dataset:
    """Opens a prepared dataset of images with masks or boxes.

    Raises:
        UserError: for missing splits and annotations, images of several sizes, and annotations out of range.
    """
    features, existing = builder.info.features, annotations_of(builder.info.features, settings)
    kind = choose_annotations(settings.dense.annotations, [*existing], settings.name)
    image, label = _image_of(features, [*existing.values()]), existing[kind]
    available = builder.info.splits
    default = {"train": "train[:90%]", "validation": "train[90%:]", "test": "test"}
    default = {role: role for role in ROLES if role in available} if "validation" in available else default
    splits = {role: split for role, split in (dict(settings.splits) or default).items() if split}
    counts = {role: len(open_split(settings.name, builder, split)) for role, split in splits.items()}
    shape = features[image].shape
    sizes = {tuple(shape[:2])} if None not in shape[:2] else set()
    if not sizes and not settings.size:
        raise UserError(
            f"data.size must be set for {settings.name!r}, whose images are of several sizes, got 0. Set it, with"
            " data.width if images are not square"
        )
    size = choose_size(sizes, settings.size, settings.dense.width, settings.name)
    channels = settings.channels or shape[-1] or 3
    if kind == "masks":
        names, values = choose_values(settings.dense, lambda: _find_largest(builder, splits["train"], label, settings))
        form = ExampleForm(size, channels, len(names), values=values, void=settings.dense.void)
    else:
        names = tuple(features[label].feature[_box_keys(features[label])[1]].names)
        most = settings.dense.boxes or max(1, *(_count_boxes(builder, split, label) for split in splits.values()))
        form = ExampleForm(size, channels, len(names), most=most)
    fetch = functools.partial(_fetch, builder, image, label)
    opened = {
        role: AnnotatedSplit(counts[role], functools.partial(fetch, split), form) for role, split in splits.items()
    }
    return read_feature_routes(Dataset(opened, names, (*size, channels)), builder, splits, settings)


def _image_of(features: Mapping[str, Any], taken: Sequence[str]) -> str:
    images = [key for key in sorted(features) if type(features[key]).__name__ == "Image" and key not in taken]
    if not images:
        raise unknown("the image", "image", features, "a feature of images")
    return "image" if "image" in images else images[0]


def _find_largest(builder: Any, split: str, label: str, settings: DatasetSettings) -> int:
    return largest_value(read_feature(builder, split, label), settings.dense.void)


def _count_boxes(builder: Any, split: str, label: str) -> int:
    key = _box_keys(builder.info.features[label])[1]
    return max(len(objects[key]) for objects in read_feature(builder, split, label))


def _fetch(builder: Any, image: str, label: str, split: str, positions: Sequence[int]) -> list[AnnotatedImage]:
    feature = builder.info.features[label]
    source = builder.as_data_source(split=split)
    examples = read_examples(source, builder, split, list(positions), keys=[image, label])
    fetched = []
    for position, example in zip(positions, examples, strict=True):
        place = f"example {position} of the split {split!r} of {builder.name!r}"
        if _box_keys(feature):
            fetched.append(AnnotatedImage(example[image], place, boxes=_read_boxes(example[label], feature)))
        else:
            mask = np.asarray(example[label])
            mask = mask[..., 0] if mask.ndim == 3 and mask.shape[-1] == 1 else mask
            fetched.append(AnnotatedImage(example[image], place, mask=mask))
    return fetched


def _read_boxes(objects: Mapping[str, Any], feature: Any) -> Boxes:
    box, label = _box_keys(feature)
    crowd = next((key for key in CROWDS if key in feature.feature), "")
    return Boxes.of(objects[box], objects[label], [int(x) for x in objects[crowd]] if crowd else ())
