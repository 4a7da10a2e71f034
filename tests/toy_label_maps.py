"""Images of 16 x 16 with a bright disc or square on a dark ground, and a column of void."""

import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data.dataset import Dataset, DatasetSettings
from jaxdistill.data.dense import DenseArrays


def read(settings: DatasetSettings) -> Dataset:
    """Returns 24 training, 8 validation and 9 test images."""
    random = np.random.default_rng(0)
    down, right = np.mgrid[:16, :16] - 7.5
    disc, square = down**2 + right**2 < 20, np.maximum(abs(down), abs(right)) < 4
    kind = random.integers(0, 2, 41)
    label_map = np.where(kind[:, None, None] == 0, disc, 2 * square).astype(np.int32)
    label_map = np.stack([np.roll(x, random.integers(-3, 4, 2), (0, 1)) for x in label_map])
    image = random.integers(0, 90, (41, 16, 16, 3)) + 60 * label_map[..., None]
    label_map[:, :, 0] = UNLABELLED
    fields = {"image": image.astype(np.uint8), "label_map": label_map}
    parts = {"train": slice(0, 24), "validation": slice(24, 32), "test": slice(32, 41)}
    splits = {role: DenseArrays({name: x[part] for name, x in fields.items()}) for role, part in parts.items()}
    return Dataset(splits, ("ground", "disc", "square"), (16, 16, 3))
