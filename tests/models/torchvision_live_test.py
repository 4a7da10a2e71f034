"""Dense models and their parts with torchvision's weights, drawn at random.

pip install torch torchvision && python -m pytest -m slow tests/models/torchvision_live_test.py
"""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.models import pyramid

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
