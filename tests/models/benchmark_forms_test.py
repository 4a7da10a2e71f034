"""Networks of the CRD benchmark: logits of RepDistiller's networks for weights drawn by the order of the layers.

`tests/golden_pretrained/repdistiller.npz` holds logits by torch 2.14 of a transcription of the models of
https://github.com/HobbitLong/RepDistiller (at commit eedab9d, mobilenetv2.py at b13aecc): ShuffleV1, ShuffleV2,
mobile_half, vgg8_bn and vgg13_bn of 100 classes, for `convolutional_cases.make_images(32)`. The i-th convolution,
normalisation or linear layer that is called has the arrays of `draw(i, ...)`.
"""

import flax.linen as nn
import jax
import numpy as np
import pytest

import convolutional_cases
from jaxdistill.models.mobilenet_v2 import MobileNetV2
from jaxdistill.models.shufflenet_v1 import ShuffleNetV1
from jaxdistill.models.shufflenet_v2 import ShuffleNetV2
from jaxdistill.models.vgg import VGG

MODELS = {
    "ShuffleV1": ShuffleNetV1(100, form="cifar"),
    "ShuffleV2": ShuffleNetV2(100, form="cifar"),
    "mobile_half": MobileNetV2(100, width=0.5, form="cifar"),
    "vgg8_bn": VGG(100, depth=8, norm=True, form="cifar"),
    "vgg13_bn": VGG(100, depth=13, norm=True, form="cifar"),
}


def draw(index, leaf, shape):
    """The numbers of an array of the layer at a position."""
    random = np.random.default_rng([index, *map(ord, leaf)])
    if leaf in ("scale", "var"):
        return np.asarray(random.uniform(0.5, 1.5, shape), np.float32)
    spread = np.sqrt(1 / np.prod(shape[:-1])) if leaf == "kernel" else 0.2
    return np.asarray(spread * random.normal(size=shape), np.float32)


def draw_all(model, images):
    """The variables of a model, drawn in the order in which its layers are called."""
    paths = []

    def record(method, arguments, options, context):
        if isinstance(context.module, nn.Conv | nn.BatchNorm | nn.Dense) and context.method_name == "__call__":
            paths.append(context.module.path)
        return method(*arguments, **options)

    with nn.intercept_methods(record):
        shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    order = {path: index for index, path in enumerate(paths)}

    def fill(path, leaf):
        *layer, name = (key.key for key in path[1:])
        return draw(order[tuple(layer)], name, leaf.shape)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_logits_of_the_benchmark(name):
    images = convolutional_cases.make_images(32)
    with np.load(convolutional_cases.GOLDEN / "repdistiller.npz") as stored:
        expected = stored[name]
    logits = jax.jit(MODELS[name].apply)(draw_all(MODELS[name], images), images).logits
    assert np.max(np.abs(logits - expected)) <= convolutional_cases.TOLERANCE * np.max(np.abs(expected))
