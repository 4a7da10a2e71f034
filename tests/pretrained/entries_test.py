"""Entries of convolutional layers, and the one family that has the names of each file."""

import pytest

import convolutional_cases
from jaxdistill.pretrained.correspondence import Entry
from jaxdistill.pretrained.entries import batch_norm, conv
from jaxdistill.pretrained.families import convnext, mobilenet_v2, resnet, shufflenet_v2, vgg
from jaxdistill.pretrained.layouts import CONV


def test_arrays_of_layers():
    assert list(conv("a.conv", "b.0")) == [Entry("params.a.conv.kernel", "b.0.weight", CONV)]
    assert [entry.tensor for entry in conv("a", "b", bias=True)] == ["b.weight", "b.bias"]
    assert {entry.name: entry.tensor for entry in batch_norm("a.norm", "b.1")} == {
        "params.a.norm.scale": "b.1.weight",
        "params.a.norm.bias": "b.1.bias",
        "batch_stats.a.norm.mean": "b.1.running_mean",
        "batch_stats.a.norm.var": "b.1.running_var",
    }


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("resnet_names", resnet),
        ("vgg_bn", vgg),
        ("vgg_timm", vgg),
        ("mobilenet_v2_names", mobilenet_v2),
        ("mobilenet_v2_timm", mobilenet_v2),
        ("shufflenet_v2", shufflenet_v2),
        ("convnext", convnext),
        ("convnext_timm", convnext),
    ],
)
def test_names_are_those_of_one_family(name, family):
    shapes = convolutional_cases.load_golden(name)[0]["shapes"]
    families = (resnet, vgg, mobilenet_v2, shufflenet_v2, convnext)
    assert [module for module in families if module.from_shapes(shapes)] == [family]
