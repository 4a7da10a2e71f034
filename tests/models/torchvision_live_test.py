"""Dense models and their parts with torchvision's weights, drawn at random.

pip install torch torchvision && python -m pytest -m slow tests/models/torchvision_live_test.py
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.core import Output
from jaxdistill.models import pyramid
from jaxdistill.models.deeplab_v3 import DeepLabV3
from jaxdistill.models.fcos import FCOS
from jaxdistill.models.mlp_segmenter import MLPSegmenter
from jaxdistill.models.resnet import ResNet
from jaxdistill.pretrained.formats import open_weights
from jaxdistill.pretrained.tensors import write_safetensors

torch = pytest.importorskip("torch", reason="the reference is torch")
torchvision = pytest.importorskip("torchvision", reason="the reference is torchvision")

pytestmark = pytest.mark.slow


def layer(conv):
    """The params of a convolution of torch."""
    bias = {} if conv.bias is None else {"bias": jnp.asarray(conv.bias.detach().numpy())}
    return {"kernel": jnp.asarray(conv.weight.detach().numpy().transpose(2, 3, 1, 0)), **bias}


def to_torch(x):
    return torch.from_numpy(np.asarray(x).transpose(0, 3, 1, 2).copy())


def to_numpy(x):
    return x.detach().numpy().transpose(0, 2, 3, 1)


def test_feature_pyramid():
    """Maps of sides that are no multiples of each other, and two extra levels."""
    torch.manual_seed(0)
    widths, sides, draw = (4, 6, 8), ((13, 10), (7, 5), (4, 3)), np.random.default_rng(0)
    maps = [draw.normal(size=(2, *side, width)).astype(np.float32) for side, width in zip(sides, widths, strict=True)]
    extra = torchvision.ops.feature_pyramid_network.LastLevelP6P7(5, 5)
    theirs = torchvision.ops.FeaturePyramidNetwork([*widths], 5, extra)
    params = {}
    for index in range(len(maps)):
        params[f"lateral{index}"] = layer(theirs.inner_blocks[index][0])
        params[f"smooth{index}"] = layer(theirs.layer_blocks[index][0])
    params |= {"extra0": layer(extra.p6), "extra1": layer(extra.p7)}
    levels = pyramid.FeaturePyramid(width=5, extra=2).apply({"params": params}, maps)
    expected = theirs({str(index): to_torch(x) for index, x in enumerate(maps)})
    assert len(levels) == len(expected)
    for ours, reference in zip(levels, expected.values(), strict=True):
        np.testing.assert_allclose(ours, to_numpy(reference), atol=1e-5)


def norm(layer):
    """The params and the statistics of a batch normalisation of torch."""
    params = {"scale": layer.weight, "bias": layer.bias}
    stats = {"mean": layer.running_mean, "var": layer.running_var}
    return tuple({name: jnp.asarray(x.detach().numpy()) for name, x in side.items()} for side in (params, stats))


def add(variables, name, conv, batch_norm):
    """Adds a convolution and the normalisation after it, by the name of the layer in a decoder."""
    variables["params"][f"{name}_conv"] = layer(conv)
    variables["params"][f"{name}_norm"], variables["batch_stats"][f"{name}_norm"] = norm(batch_norm)


def draw_statistics(model):
    """Draws running averages and biases, which torchvision begins at 0 and 1."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval()


def encoder_variables(encoder, backbone, folder, x):
    """The variables of a ResNet with the weights of torchvision's, through a file."""
    state = {name: tensor.numpy() for name, tensor in backbone.state_dict().items() if tensor.ndim}
    state |= {"fc.weight": np.zeros((3, 2048), np.float32), "fc.bias": np.zeros(3, np.float32)}
    path = folder / "resnet50.safetensors"
    write_safetensors(path, {name: np.ascontiguousarray(array) for name, array in state.items()})
    shapes = jax.eval_shape(encoder.clone(classes=3).init, jax.random.key(0), x)
    variables = open_weights("torch", path, str(path)).read(shapes)
    variables["params"].pop("head")
    return variables


def test_deeplab_v3(tmp_path):
    """A ResNet-50 of output stride 8 with ASPP, at a size that no stride divides."""
    torch.manual_seed(0)
    build = torchvision.models.segmentation.deeplabv3_resnet50
    theirs = draw_statistics(build(weights=None, weights_backbone=None, num_classes=5))
    x = np.random.default_rng(0).normal(size=(1, 75, 90, 3)).astype(np.float32)
    model = DeepLabV3(5, encoder=ResNet(0, depth=50, output_stride=8))
    encoder = encoder_variables(model.encoder, theirs.backbone, tmp_path, x)
    variables = {collection: {"encoder": tree} for collection, tree in encoder.items()}
    aspp, *decoder = theirs.classifier
    for index, branch in enumerate(aspp.convs[:4]):
        add(variables, f"aspp{index}", branch[0], branch[1])
    add(variables, "aspp_pool", aspp.convs[4][1], aspp.convs[4][2])
    add(variables, "project", aspp.project[0], aspp.project[1])
    add(variables, "decoder", decoder[0], decoder[1])
    variables["params"]["head"] = layer(decoder[3])
    assert jax.tree.structure(variables) == jax.tree.structure(jax.eval_shape(model.init, jax.random.key(0), x))
    with torch.no_grad():
        expected = to_numpy(theirs(to_torch(x))["out"])
    actual = jax.jit(model.apply)(variables, x).logits
    assert np.max(np.abs(expected)) > 0.1
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_mlp_segmenter():
    """The decoder of transformers' SegFormer on maps of four sizes."""
    segformer = pytest.importorskip("transformers.models.segformer.modeling_segformer", reason="the reference")
    torch.manual_seed(0)
    widths, sides = (4, 6, 8, 10), ((12, 8), (6, 4), (3, 2), (2, 1))
    config = segformer.SegformerConfig(hidden_sizes=[*widths], decoder_hidden_size=16, num_labels=5)
    theirs = draw_statistics(segformer.SegformerDecodeHead(config))
    draw = np.random.default_rng(0)
    maps = [draw.normal(size=(2, *side, width)).astype(np.float32) for side, width in zip(sides, widths, strict=True)]
    variables = {"params": {"head": layer(theirs.classifier)}, "batch_stats": {}}
    for index, linear in enumerate(theirs.linear_projections):
        weight = linear.proj.weight.detach().numpy().T
        variables["params"][f"linear{index}"] = {"kernel": weight, "bias": linear.proj.bias.detach().numpy()}
    add(variables, "fuse", theirs.linear_fuse, theirs.batch_norm)

    class Encoder(nn.Module):
        dtype: Any = jnp.float32

        def __call__(self, x, train):
            return Output(None, {f"stage{index}": level for index, level in enumerate(maps, 1)})

    model = MLPSegmenter(5, encoder=Encoder(), width=16)
    with torch.no_grad():
        expected = to_numpy(theirs(tuple(map(to_torch, maps))))
    actual = model.apply(variables, jnp.zeros((2, 12, 8, 3))).logits
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_fcos(tmp_path):
    """The pyramid, towers and predictions of torchvision's, at a size that no stride divides."""
    torch.manual_seed(0)
    build = torchvision.models.detection.fcos_resnet50_fpn
    theirs = build(weights=None, weights_backbone=None, num_classes=5)
    for module in theirs.head.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.05)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
    draw_statistics(theirs)
    x = np.random.default_rng(0).normal(size=(1, 75, 90, 3)).astype(np.float32)
    model = FCOS(5, encoder=ResNet(0, depth=50))
    encoder = encoder_variables(model.encoder, theirs.backbone.body, tmp_path, x)
    variables = {collection: {"encoder": tree} for collection, tree in encoder.items()}
    fpn = theirs.backbone.fpn
    pyramid_params = {f"lateral{index}": layer(block[0]) for index, block in enumerate(fpn.inner_blocks)}
    pyramid_params |= {f"smooth{index}": layer(block[0]) for index, block in enumerate(fpn.layer_blocks)}
    pyramid_params |= {"extra0": layer(fpn.extra_blocks.p6), "extra1": layer(fpn.extra_blocks.p7)}
    classes, regression = theirs.head.classification_head, theirs.head.regression_head
    head = {"logits": layer(classes.cls_logits)}
    head |= {"distances": layer(regression.bbox_reg), "centerness": layer(regression.bbox_ctrness)}
    for name, tower in (("class", classes.conv), ("box", regression.conv)):
        for index in range(4):
            head[f"{name}_conv{index}"], norm = layer(tower[3 * index]), tower[3 * index + 1]
            scale, bias = (jnp.asarray(part.detach().numpy()) for part in (norm.weight, norm.bias))
            head[f"{name}_norm{index}"] = {"scale": scale, "bias": bias}
    variables["params"] |= {"pyramid": pyramid_params, "head": head}
    assert jax.tree.structure(variables) == jax.tree.structure(jax.eval_shape(model.init, jax.random.key(0), x))
    with torch.no_grad():
        maps = theirs.backbone(to_torch(x))
        expected = theirs.head([*maps.values()])
    output = jax.jit(model.apply)(variables, x)
    for level, reference in zip(range(3, 8), maps.values(), strict=True):
        np.testing.assert_allclose(output.tap(f"P{level}"), to_numpy(reference), atol=1e-4)
    assert np.max(np.abs(expected["bbox_regression"].numpy())) > 0.1
    np.testing.assert_allclose(output.logits, expected["cls_logits"], atol=1e-4)
    np.testing.assert_allclose(output.tap("distances"), expected["bbox_regression"], atol=1e-4)
    np.testing.assert_allclose(output.tap("centerness"), expected["bbox_ctrness"][..., 0], atol=1e-4)
