"""Small networks of every family, whose units can be removed."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

import numpy_variables
from jaxdistill.compress import resized_layers
from jaxdistill.compress.view import Model
from jaxdistill.models import (
    bag_of_embeddings,
    bilstm,
    cifar_resnet,
    convnext,
    decoder,
    encoder,
    mlp,
    mobilenet_v2,
    resnet,
    shufflenet_v1,
    shufflenet_v2,
    vgg,
    vit,
    wide_resnet,
)
from permuted import Bottlenecks

TEXT = dict(layers=1, width=8, heads=2, length=8)
LLAMA = dict(positions="rotary", norm="rms", activation="swiglu", bias=False, tied=False, qk_norm=True, dense=True)
NETWORKS = {
    "mlp": (mlp.MLP(5, (12, 8)), (2, 4, 4, 1)),
    "cifar_resnet": (cifar_resnet.CifarResNet(5, depth=8), (2, 8, 8, 3)),
    "wide_resnet": (wide_resnet.WideResNet(5, depth=10, width=1), (2, 8, 8, 3)),
    "resnet": (resnet.ResNet(5, depth=18), (1, 32, 32, 3)),
    "bottlenecks": (Bottlenecks(), (2, 8, 8, 3)),
    "vgg": (vgg.VGG(5, 8, norm=True, channels=(4, 6, 8, 8, 8), form="cifar"), (2, 8, 8, 3)),
    "vgg, hidden layers": (vgg.VGG(5, 8, channels=(4, 6, 8, 8, 8), hidden=6), (1, 32, 32, 3)),
    "mobilenet_v2": (mobilenet_v2.MobileNetV2(5, width=0.25, depths=(1, 1, 2, 0, 0, 0, 0)), (1, 16, 16, 3)),
    "shufflenet_v1": (shufflenet_v1.ShuffleNetV1(5, width=0.25, depths=(2,)), (1, 16, 16, 3)),
    "shufflenet_v2": (shufflenet_v2.ShuffleNetV2(5, (8, 16), (2,), form="cifar"), (1, 16, 16, 3)),
    "convnext": (convnext.ConvNeXt(5, (1, 1), (4, 8), layer_scale=0.1), (1, 16, 16, 3)),
    "vit": (vit.ViT(5, patch=4, layers=1, width=8, heads=2), (2, 8, 8, 3)),
    "encoder": (encoder.Encoder(5, vocabulary=11, **TEXT), (2, 8)),
    "encoder, tokens": (encoder.Encoder(11, predicts="token", vocabulary=11, dense=True, **TEXT), (2, 8)),
    "decoder": (decoder.Decoder(11, dense=True, **TEXT), (2, 8)),
    "decoder, llama": (decoder.Decoder(11, **TEXT | dict(heads=8, key_heads=4, head_width=4), **LLAMA), (2, 8)),
    "bilstm": (bilstm.BiLSTM(5, vocabulary=11, embed_width=6, width=4, hidden=16), (2, 8)),
    "bag_of_embeddings": (bag_of_embeddings.BagOfEmbeddings(5, vocabulary=11, width=6, widths=(8,)), (2, 8)),
}
"""name -> a model, and the shape of its input."""

NOT_REMOVABLE = {"shufflenet_v1": "grouped convolutions"}
"""Families without units that can be removed, and the reason."""


def draw(name):
    """Returns a model as a function, its flat variables, and a batch."""
    module, shape = NETWORKS[name]
    random = np.random.default_rng(1)
    x = random.integers(0, 11, shape).astype(np.int32) if len(shape) == 2 else random.normal(size=shape)
    batch = {"x": jnp.asarray(x, jnp.int32 if len(shape) == 2 else jnp.float32)}
    variables = flatten_dict(numpy_variables.draw(module, batch["x"]), sep="/")
    # Sums of many inputs stay near 1, where float32 is exact.
    variables = {
        n: x * 3 * np.float32(np.prod(x.shape[:-1]) ** -0.5) if x.ndim > 1 else x for n, x in variables.items()
    }
    return Model(lambda variables, batch: module.apply(variables, batch["x"]).logits, batch), variables


def call(model, variables, batch):
    """Returns the logits for flat variables of any size."""
    return jax.jit(model.under(resized_layers.apply_resized).apply)(unflatten_dict(dict(variables), sep="/"), batch)
