"""Files `.npz` of images and of texts."""

import numpy as np


def image_arrays(rows=6, **changed):
    rng = np.random.default_rng(0)
    made = {}
    for role in ("train", "test"):
        made[f"{role}_image"] = rng.integers(0, 256, (rows, 5, 4, 3), np.uint8)
        made[f"{role}_label"] = np.arange(rows) % 3
    return made | changed


def write_images(folder, **changed):
    path = folder / "data.npz"
    np.savez(path, **{k: v for k, v in image_arrays(**changed).items() if v is not None})
    return str(path)


def token_arrays(**changed):
    rng = np.random.default_rng(0)
    made = {}
    for role, rows in (("train", 6), ("test", 4)):
        made[f"{role}_tokens"] = rng.integers(0, 9, (rows, 5))
        made[f"{role}_token_mask"] = np.arange(5)[None] < rng.integers(1, 6, (rows, 1))
        made[f"{role}_label"] = np.arange(rows) % 3
    made["train_tokens"][0, 0] = 8
    return {name: x for name, x in (made | changed).items() if x is not None}


def write_tokens(folder, **changed):
    path = folder / "texts.npz"
    np.savez(path, **token_arrays(**changed))
    return str(path)
