"""Promises of every model family, on its smallest member."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.conformance import models as promises
from jaxdistill.models.bag_of_embeddings import BagOfEmbeddings
from jaxdistill.models.bilstm import BiLSTM
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.convnext import ConvNeXt
from jaxdistill.models.decoder import Decoder
from jaxdistill.models.deeplab_v3 import DeepLabV3
from jaxdistill.models.encoder import Encoder
from jaxdistill.models.fcos import FCOS
from jaxdistill.models.fpn_segmenter import FPNSegmenter
from jaxdistill.models.mlp import MLP
from jaxdistill.models.mlp_segmenter import MLPSegmenter
from jaxdistill.models.mobilenet_v2 import MobileNetV2
from jaxdistill.models.resnet import ResNet
from jaxdistill.models.shufflenet_v1 import ShuffleNetV1
from jaxdistill.models.shufflenet_v2 import ShuffleNetV2
from jaxdistill.models.vgg import VGG
from jaxdistill.models.vit import ViT
from jaxdistill.models.wide_resnet import WideResNet

ENCODER = ConvNeXt(0, depths=(1, 1), widths=(8, 12), patch=2)
SMALL = {
    "mlp": MLP(3, widths=(5, 4)),
    "cifar_resnet": CifarResNet(3, depth=8),
    "resnet": ResNet(3, depth=18, width=4, depths=(2, 1)),
    "wide_resnet": WideResNet(3, depth=10, width=1),
    "vgg": VGG(3, depth=11, norm=True, channels=(4, 4, 4, 4, 4), form="cifar"),
    "mobilenet_v2": MobileNetV2(3, width=0.25, depths=(1, 1, 1, 0, 0, 0, 0), form="cifar"),
    "shufflenet_v1": ShuffleNetV1(3, width=0.25, depths=(2,)),
    "shufflenet_v2": ShuffleNetV2(3, channels=(8, 12), depths=(2,), form="cifar"),
    "convnext": ConvNeXt(3, depths=(1, 2), widths=(8, 12), patch=2),
    "vit": ViT(3, patch=4, layers=2, width=8, heads=2),
    "encoder": Encoder(3, vocabulary=5, layers=2, width=8, heads=2),
    "bilstm": BiLSTM(3, vocabulary=5, embed_width=6, width=4, hidden=5),
    "bag_of_embeddings": BagOfEmbeddings(3, vocabulary=5, width=6, widths=(4,)),
    "decoder": Decoder(3, layers=2, width=8, heads=2, tied=False),
    "fcos": FCOS(3, encoder=ENCODER, extra=1, width=4, tower=1, groups=2, bins=3),
    "fpn_segmenter": FPNSegmenter(3, encoder=ENCODER, width=8),
    "deeplab_v3": DeepLabV3(3, encoder=ENCODER, width=8, rates=(1, 2)),
    "mlp_segmenter": MLPSegmenter(3, encoder=ViT(0, patch=4, layers=2, width=8, heads=2), width=8),
}
DENSE = ("fpn_segmenter", "deeplab_v3", "mlp_segmenter", "fcos")
UNNORMALISED = ("mlp", "vit", "encoder", "convnext", "bilstm", "bag_of_embeddings")
"""Models without BatchNorm."""
CLASSIFIERS = [name for name in SMALL if name not in ("decoder", *DENSE)]
BATCH_NORMALISED = [name for name in CLASSIFIERS if name not in UNNORMALISED]
OF_SOME = {promises.logits_of_pooled: CLASSIFIERS, promises.batch_statistics: [*BATCH_NORMALISED, "fpn_segmenter"]}
COMPILED = [p.check for p in promises.PROMISES if p.check not in (promises.output_of_classes, promises.bfloat16)]
"""Promises that one dense model keeps by default, and the others in slow tests."""
CASES = [
    pytest.param(
        name,
        promise,
        id=f"{promise.name}-{name}",
        marks=[pytest.mark.slow] if name in DENSE[1:] and promise.check in COMPILED else [],
    )
    for promise in promises.PROMISES
    for name in OF_SOME.get(promise.check, SMALL)
]

subject = functools.cache(lambda name: promises.ToyModel(SMALL[name]))


@pytest.mark.parametrize("name", SMALL)
def test_class_is_named_as_its_file(name):
    model = type(SMALL[name])
    assert model.__module__ == f"jaxdistill.models.{name}"
    assert model.__name__.lower() == name.replace("_", "")


def test_every_family_is_tested():
    assert sorted(SMALL) == registry.names("model")


@pytest.mark.parametrize(("name", "promise"), CASES)
def test_promise(name, promise):
    promise.check(subject(name))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_have_one_prediction_per_example(name):
    assert subject(name).output.logits.shape == (4, 3)


@pytest.mark.parametrize("name", DENSE[:3])
def test_segmenters_have_one_prediction_per_pixel(name):
    toy = subject(name)
    assert jax.eval_shape(toy.infer, toy.variables, toy.x).logits.shape == (4, 8, 8, 3)


@pytest.mark.parametrize("name", BATCH_NORMALISED)
def test_convolutional_networks_have_statistics_of_each_normalisation(name):
    assert len(jax.tree.leaves(subject(name).variables["batch_stats"])) >= 14


@pytest.mark.parametrize("name", BATCH_NORMALISED)
def test_pooled_is_the_mean_of_the_last_activation_and_blocks_end_in_their_stage(name):
    taps = subject(name).output.taps
    stages = sorted(tap for tap in taps if tap.startswith("stage") and "/" not in tap)
    assert jnp.any(taps[f"{stages[-1]}/preact"] < 0)
    last = taps["final"] if "final" in taps else nn.relu(taps[f"{stages[-1]}/preact"])
    np.testing.assert_allclose(taps["pooled"], np.mean(last, axis=(1, 2)), rtol=1e-5)
    for stage in stages:
        blocks = sorted(tap for tap in taps if tap.startswith(f"{stage}/block"))
        np.testing.assert_array_equal(taps[blocks[-1]], taps[stage])


@pytest.mark.parametrize("name", [name for name in BATCH_NORMALISED if name != "vgg"])  # torchvision's VGG has them
def test_no_bias_before_a_normalisation(name):
    shapes = jax.eval_shape(SMALL[name].init, jax.random.key(0), promises.IMAGES)["params"]
    names = [core.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(shapes)]
    assert not [path for path in names if "conv" in path and not path.endswith("kernel")]
