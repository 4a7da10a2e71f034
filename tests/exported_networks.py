"""Tiny networks on raw inputs, ready to leave, with examples."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.export.exported import Exported
from jaxdistill.export.predictor import Predictor
from jaxdistill.export.signature import Input, Signature
from jaxdistill.models.encoder import Encoder
from jaxdistill.models.mlp import MLP
from jaxdistill.models.vit import ViT
from jaxdistill.modules.preprocess import ImageSpec, Preprocess
from jaxdistill.networks import Frozen

IMAGES = ImageSpec((4, 4, 1), (0.5,), (0.25,))


def image_predictor(preprocess=None, widths=(7,), **changes):
    """A perceptron on 4 x 4 images of uint8."""
    source = Frozen(MLP(3, widths), preprocess=preprocess, class_names=("a", "b", "c"))
    signature = Signature({"image": Input((4, 4, 1), "uint8")}, class_names=("a", "b", "c"))
    return Predictor("student", "mlp", source, signature, IMAGES, **changes)


def text_predictor():
    """An encoder on texts of at most 6 tokens of 20."""
    module = Encoder(classes=3, vocabulary=20, layers=1, width=8, heads=2, hidden=12, length=8)
    inputs = {name: Input((6,), "int32") for name in ("tokens", "token_mask")}
    return Predictor("student", "encoder", Frozen(module), Signature(inputs))


def vit_predictor():
    """A vision transformer on those images."""
    module = ViT(3, patch=2, size=4, layers=1, width=8, heads=2)
    signature = Signature({"image": Input((4, 4, 1), "uint8")})
    return Predictor("student", "vit", Frozen(module), signature, IMAGES)


def examples_of(predictor, count=24):
    """Random raw inputs."""
    rng, limits = np.random.default_rng(1), {"image": 256, "tokens": 20, "token_mask": 1}
    return {
        name: rng.integers(0, limits[name], (count, *x.shape)).astype(x.dtype) + (name == "token_mask")
        for name, x in predictor.signature.inputs.items()
    }


def exported_of(predictor, **changes):
    """The network with random weights."""
    batch = {name: jnp.zeros((1, *x.shape), x.dtype) for name, x in predictor.signature.inputs.items()}
    arguments = {name: x for name, x in batch.items() if name not in ("image", "tokens")}
    shapes = jax.eval_shape(
        lambda: predictor.source.module.init(jax.random.key(0), predictor.prepared(batch), **arguments)
    )
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)
    return Exported("student", predictor.model, predictor.source.module, variables, predictor=predictor, **changes)


def half_size():
    """A preprocessing of those images."""
    return Preprocess(IMAGES, ImageSpec((2, 2, 3), (0.4, 0.5, 0.6), (0.2, 0.3, 0.2)))
