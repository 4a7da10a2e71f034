"""Published convolutional networks with drawn weights: logits and taps of torchvision, timm, transformers and Keras."""

import importlib
import json
import os

import jax
import numpy as np
import pytest

import convolutional_cases as cases
from jaxdistill.pretrained.tensors import write_safetensors

os.environ.setdefault("KERAS_BACKEND", "jax")

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch", reason="the reference is torch")
torchvision = pytest.importorskip("torchvision", reason="the reference is torchvision")
timm = pytest.importorskip("timm", reason="the reference is timm")
transformers = pytest.importorskip("transformers", reason="the reference is transformers")

import convolutional_references as references  # noqa: E402, needs them

RESNET, CONVNEXT, MOBILENET = references.RESNET, references.CONVNEXT, references.MOBILENET
CASES = {
    "torchvision": {
        "resnet18": RESNET,
        "resnet50": RESNET,
        "resnet152": RESNET,
        "resnext50_32x4d": RESNET,
        "wide_resnet50_2": RESNET,
        "vgg11": {},
        "vgg16_bn": {},
        "mobilenet_v2": MOBILENET["torchvision"],
        "shufflenet_v2_x0_5": references.SHUFFLENET,
        "shufflenet_v2_x2_0": references.SHUFFLENET,
        "convnext_tiny": CONVNEXT["torchvision"],
    },
    "timm": {
        "resnet34": RESNET,
        "resnet50": RESNET,
        "resnext50_32x4d": RESNET,
        "vgg13_bn": {},
        "vgg19": {},
        "mobilenetv2_050": MOBILENET["timm"],
        "mobilenetv2_140": MOBILENET["timm"],
        "convnext_atto": CONVNEXT["timm"],
        "convnext_tiny": CONVNEXT["timm"],
    },
}
NAMED = [(library, name) for library, networks in CASES.items() for name in networks]


def check(model, taps, path, images):
    expected = references.compute(model, taps, images)
    output = cases.run("hf" if path.is_dir() else "torch", path, images)
    assert len(expected) >= 5
    cases.compare(output, expected, np.asarray)
    jax.clear_caches()


# Rounding of 17 drawn blocks of MobileNetV2 in float32 exceeds the tolerance, torch's too against float64.
@pytest.mark.parametrize(("library", "name"), NAMED)
def test_published_networks(library, name, tmp_path):
    build = getattr(torchvision.models, name) if library == "torchvision" else lambda: timm.create_model(name)
    model = build()
    path = tmp_path / "w.safetensors"
    write_safetensors(path, references.set_weights(model, cases.draw_all))
    images = cases.make_images(75, 101)
    check(model, CASES[library][name], path, images.astype(np.float64) if name.startswith("mobilenet") else images)


@pytest.mark.parametrize(
    ("family", "taps"),
    [
        ("ResNet", {"stem": "resnet.embedder"} | references.stages("resnet.encoder.stages.{}")),
        ("ConvNext", {"stem": "convnext.embeddings"} | references.stages("convnext.encoder.stages.{}")),
    ],
)
def test_defaults_of_transformers(family, taps, tmp_path):
    model = references.hf(family)
    config = model.config.to_dict() | {"architectures": [type(model).__name__]}
    (tmp_path / "config.json").write_text(json.dumps(config, default=str))
    write_safetensors(tmp_path / "model.safetensors", references.set_weights(model, cases.draw_all))
    check(model, taps, tmp_path, cases.make_images(75, 101))


@pytest.mark.parametrize(("module", "name", "form"), [("resnet", "ResNet50", "saved"), ("vgg16", "VGG16", "weights")])
def test_keras_applications(module, name, form, tmp_path):
    keras = pytest.importorskip("keras", reason="the reference is Keras")
    pytest.importorskip("h5py", reason="files of Keras are HDF5")
    keras_references = importlib.import_module("keras_references")
    build = getattr(getattr(keras.applications, module), name)
    model = build(weights=None, classes=7, classifier_activation=None)
    keras_references.set_weights(model, cases.draw)
    images = cases.make_images(224)
    expected = keras_references.compute(model, getattr(keras_references, name.rstrip("0156").upper()), images)
    path = tmp_path / ("w.h5" if form == "saved" else "w.weights.h5")
    (model.save if form == "saved" else model.save_weights)(path)
    assert len(expected) >= 6
    cases.compare(cases.run("keras", path, images), expected, np.asarray)
