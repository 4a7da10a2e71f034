"""Networks of Keras Applications, with layers whose outputs are taps. `KERAS_BACKEND` must be set before."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import keras
import numpy as np
from keras.src.applications import resnet

ORDER = {"Conv2D": ("kernel", "bias"), "Dense": ("kernel", "bias")}
NORM = ("gamma", "beta", "moving_mean", "moving_variance")

RESNET = {"stem": "pool1_pool"} | {f"stage{stage}": rf"conv{stage + 1}_block\d+_out" for stage in range(1, 5)}
VGG = {f"stage{stage}": rf"block{stage}_conv\d" for stage in range(1, 6)} | {"hidden1": "fc1"}


def small_resnet() -> tuple[Any, dict[str, str]]:
    """A ResNet of two stages of one block."""

    def stack(x: Any) -> Any:
        x = resnet.stack_residual_blocks_v1(x, 64, 1, stride1=1, name="conv2")
        return resnet.stack_residual_blocks_v1(x, 128, 1, name="conv3")

    fields = dict(include_top=True, weights=None, classes=3, classifier_activation=None)
    model = resnet.ResNet(stack, False, True, input_shape=(37, 45, 3), **fields)
    return model, {"stem": "pool1_pool", "stage1": "conv2_block1_out", "stage2": "conv3_block1_out"}


def set_weights(model: Any, draw: Callable[[str, tuple[int, ...]], np.ndarray]) -> dict[str, tuple[int, ...]]:
    """Draws the weights of a network, and returns their shapes by `LAYER.WEIGHT`."""
    shapes = {}
    for layer in model.layers:
        names = ORDER.get(type(layer).__name__, NORM)[: len(layer.weights)]
        these = {f"{layer.name}.{name}": tuple(x.shape) for name, x in zip(names, layer.weights, strict=True)}
        layer.set_weights([draw(name, shape) for name, shape in these.items()])
        shapes |= these
    return shapes


def compute(model: Any, taps: Mapping[str, str], images: np.ndarray) -> dict[str, np.ndarray]:
    """The logits and the taps of a network, which reads blue, green and red, for images of red, green and blue."""
    outputs = {"logits": model.output}
    for tap, pattern in taps.items():
        # The last layer of a stage.
        outputs[tap] = [layer.output for layer in model.layers if re.fullmatch(pattern, layer.name)][-1]
    with jax.numpy_rank_promotion("allow"):
        result = keras.Model(model.input, outputs)(images[..., ::-1], training=False)
    return {name: np.asarray(x) for name, x in result.items()}
