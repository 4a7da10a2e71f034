"""Drawn rectangles with label maps and boxes, and their augmentation."""

import jax
import numpy as np

from jaxdistill.core import UNLABELLED
from jaxdistill.data import augment

HEIGHT, WIDTH, ROWS, OBJECTS = 24, 30, 32, 3
BACKGROUND = OBJECTS
LEVELS = np.array([0.0, 0.25, 0.5, 0.75, 1.0], np.float32)
"""Brightness of void, of the objects and of the background."""

MOVING = ("label_map", "boxes", "box_label", "box_crowd")


def draw_batch():
    """Draws rectangles that do not touch, with their labels."""
    random = np.random.default_rng(0)
    label_map = np.full((ROWS, HEIGHT, WIDTH), BACKGROUND, np.int32)
    boxes = np.zeros((ROWS, OBJECTS + 1, 4), np.float32)  # the last row is padding
    for row in range(ROWS):
        for number in range(OBJECTS):
            top, left = random.integers(1, 10), 10 * number + random.integers(1, 4)
            bottom, right = top + random.integers(4, 13), left + random.integers(4, 7)
            label_map[row, top:bottom, left:right] = number
            boxes[row, number] = top / HEIGHT, left / WIDTH, bottom / HEIGHT, right / WIDTH
    label = np.tile(np.array([*range(OBJECTS), UNLABELLED], np.int32), (ROWS, 1))
    fields = {"label_map": label_map, "boxes": boxes, "box_label": label, "box_crowd": (label == 1).astype(np.int32)}
    numbers = {"index": np.arange(ROWS), "view": np.zeros(ROWS, int), "mask": np.ones(ROWS, np.float32)}
    return {"image": LEVELS[label_map + 1][..., None], **fields, **numbers}


def run(names, batch=None, moving=MOVING, channels=1):
    """Augments a batch, standardised by nothing."""
    plain = {"mean": (0.0,) * channels, "std": (1.0,) * channels}
    function = augment.build(names, seed=0, classes=4, moving=moving, **plain)
    moved = jax.jit(function)(draw_batch() if batch is None else batch)
    return {name: np.asarray(array) for name, array in moved.items()}


def pixel_box(inside):
    """Returns the box about some pixels, in pixels."""
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return np.array([rows[0], columns[0], rows[-1] + 1, columns[-1] + 1])
