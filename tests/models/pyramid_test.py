"""Encoders of every family, and the feature pyramid."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models import pyramid
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.convnext import ConvNeXt
from jaxdistill.models.mobilenet_v2 import MobileNetV2
from jaxdistill.models.resnet import ResNet
from jaxdistill.models.shufflenet_v1 import ShuffleNetV1
from jaxdistill.models.shufflenet_v2 import ShuffleNetV2
from jaxdistill.models.vgg import VGG
from jaxdistill.models.vit import ViT
from jaxdistill.models.wide_resnet import WideResNet

FAMILIES = {
    "cifar_resnet": (CifarResNet(0, depth=8), 3),
    "resnet": (ResNet(0, depths=(1, 1, 1, 1), width=8), 4),
    "wide_resnet": (WideResNet(0, depth=10, width=1), 3),
    "vgg": (VGG(0, depth=11, channels=(8, 8, 8, 8, 8)), 5),
    "mobilenet_v2": (MobileNetV2(0, width=0.25, depths=(1, 1, 1, 0, 1, 0, 1)), 4),
    "shufflenet_v1": (ShuffleNetV1(0, width=0.25, depths=(1, 1, 1)), 3),
    "shufflenet_v2": (ShuffleNetV2(0, channels=(8, 16, 32, 64), depths=(1, 1, 1)), 3),
    "convnext": (ConvNeXt(0, depths=(1, 1, 1, 1), widths=(8, 16, 32, 64)), 4),
    "vit": (ViT(0, patch=8, layers=4, width=8, heads=2), 4),
}
"""name -> (encoder, number of maps)."""
IMAGES = jax.ShapeDtypeStruct((2, 64, 48, 3), jnp.float32)


class Maps(nn.Module):
    """The maps of an encoder, and the pyramid of them."""

    encoder: nn.Module | None

    @nn.compact
    def __call__(self, x, train=False):
        output = pyramid.encode(self.encoder, x, train, jnp.float32)
        maps = pyramid.select_maps(self.encoder, output, x.shape[1:3])
        return maps, pyramid.FeaturePyramid(width=16, extra=2)([*maps.values()])


QUICK = ("cifar_resnet", "wide_resnet", "vgg")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES])
def test_every_family_is_an_encoder_whose_params_are_used(name):
    encoder, count = FAMILIES[name]
    model = Maps(encoder)
    (maps, levels), variables = jax.eval_shape(model.init_with_output, jax.random.key(0), IMAGES)
    assert len(maps) == count
    sides = [m.shape[1:3] for m in maps.values()]
    assert sides == sorted(sides, reverse=True)
    assert [m.shape[-1] for m in levels] == [16] * (count + 2)
    names = [core.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables["params"])]
    assert not [name for name in names if "head" in name]
    assert {*variables["params"]} == {"encoder", "FeaturePyramid_0"}
    # jit leaves out the arguments that no result depends on.
    lowered = jax.jit(model.apply).lower(variables, IMAGES).as_text()
    signature = lowered[lowered.index("@main(") : lowered.index(") -> ")]
    assert signature.count("%arg") == len(jax.tree.leaves(variables)) + 1


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_an_encoder_has_the_params_and_taps_of_the_classifier(name):
    encoder, _ = FAMILIES[name]
    outputs = {}
    for classes in (0, 3):
        outputs[classes] = jax.eval_shape(encoder.clone(classes=classes).init_with_output, jax.random.key(0), IMAGES)
    (left, encoder_variables), (right, variables) = outputs[0], outputs[3]
    assert left.logits.shape == (2, 0)
    assert left.taps == right.taps
    head = variables["params"].pop("head")
    assert head["kernel"].shape[-1] == 3
    assert encoder_variables == variables


def test_default_levels_of_a_transformer_are_four_at_equal_distances():
    output = core.Output(
        None, {f"block{i}": jnp.zeros((1, 5, 2)) for i in range(12)} | {"final": jnp.ones((1, 5, 2)), "embed": 0}
    )
    maps = pyramid.select_maps(ViT(0, patch=8), output, (16, 16))
    assert [*maps] == ["block2", "block5", "block8", "final"]
    assert maps["final"].shape == (1, 2, 2, 2)


def test_levels_by_name():
    output = core.Output(None, {"stage1": jnp.zeros((1, 4, 4, 2)), "stage2": jnp.zeros((1, 2, 2, 2))})
    assert [*pyramid.select_maps(None, output, (8, 8), ("stage2",))] == ["stage2"]
    with pytest.raises(UserError, match="levels"):
        pyramid.select_maps(None, output, (8, 8), ("stage3",))


def test_a_pyramid_adds_the_coarser_map_by_hand():
    model = pyramid.FeaturePyramid(width=1, smooth=False, extra=1)
    fine, coarse = jnp.zeros((1, 3, 3, 1)), jnp.asarray([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    variables = jax.eval_shape(model.init, jax.random.key(0), [fine, coarse])
    variables = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), variables)
    variables["params"]["lateral0"]["bias"] *= 0
    variables["params"]["lateral1"]["bias"] *= 0
    levels = model.apply(variables, [fine, coarse])
    np.testing.assert_array_equal(levels[0][0, :, :, 0], [[1, 1, 2], [1, 1, 2], [3, 3, 4]])
    np.testing.assert_array_equal(levels[1][0, :, :, 0], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(levels[2][0, :, :, 0], [[11]])  # the sum of a 3x3 around the first place, and a bias
