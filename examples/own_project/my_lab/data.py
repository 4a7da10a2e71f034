"""A dataset made by a function: rings of three radii on noise."""

import numpy as np

from jaxdistill.data.dataset import Arrays, Dataset, DatasetSettings


def rings(settings: DatasetSettings) -> Dataset:
    """Returns 600 training, 150 validation and 150 test images of 12 x 12 pixels, a ring of one of three radii each."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:12, :12] - 5.5
    radius = np.hypot(rows, columns)
    label = random.integers(0, 3, 900).astype(np.int32)
    ring = np.abs(radius - (2 + 1.5 * label)[:, None, None]) < 0.8
    image = (160 * ring + random.integers(0, 96, ring.shape)).astype(np.uint8)[..., None]
    parts = {"train": slice(0, 600), "validation": slice(600, 750), "test": slice(750, 900)}
    splits = {role: Arrays(image[part], label[part]) for role, part in parts.items()}
    return Dataset(splits, ("small", "medium", "large"), image.shape[1:])
