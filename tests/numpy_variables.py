"""Variables drawn by numpy: compiling a random initialisation takes longer than most tests."""

import jax
import numpy as np


def draw(module, *arguments, seed=0):
    """Random variables of a module for arguments; normal, but positive scales and variances."""
    shapes = jax.eval_shape(module.init, jax.random.key(0), *arguments)
    random = np.random.default_rng(seed)

    def fill(path, leaf):
        positive = path[-1].key in ("scale", "var")
        values = random.uniform(0.5, 1.5, leaf.shape) if positive else random.normal(0, 0.3, leaf.shape)
        return values.astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, shapes)
