"""Models of networks from a config: the module, and the preprocessing of its images."""

import dataclasses

import jax.numpy as jnp
import pytest

from jaxdistill.config.nested_model import NestedModel
from jaxdistill.errors import UserError
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.decoder import Decoder
from jaxdistill.models.fpn_segmenter import FPNSegmenter
from jaxdistill.models.mlp import MLP
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.networks import Context
from jaxdistill.networks.model import ModelSettings, PreprocessSettings, build_module, build_preprocess, inputs_of

IMAGES = ImageSpec((8, 8, 1), (0.5,), (0.25,))
CONTEXT = Context(10, IMAGES, dataset="digits")
TEXTS = Context(2, None, dataset="texts", input="tokens", vocabulary=256)


def test_classes_are_those_of_the_data_unless_they_are_set():
    assert build_module("a", ModelSettings("mlp"), {"widths": (4,)}, CONTEXT) == MLP(10, widths=(4,))
    assert build_module("a", ModelSettings("mlp", classes=7), {}, CONTEXT).classes == 7


def test_classes_of_a_language_model_are_the_tokens_and_of_an_encoder_those_of_the_data():
    assert build_module("a", ModelSettings("decoder"), {}, TEXTS).classes == 256
    assert build_module("a", ModelSettings("encoder"), {"vocabulary": 256}, TEXTS).classes == 2


def test_a_dtype_is_set_by_name():
    assert build_module("a", ModelSettings("mlp", dtype="bfloat16"), {}, CONTEXT).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("settings", "fields", "context", "message"),
    [
        (ModelSettings("mpl"), {}, CONTEXT, "networks.a.model must be a model, got 'mpl'. Did you mean 'mlp'"),
        (
            ModelSettings("mlp"),
            {},
            Context(0, IMAGES, dataset="noise"),
            "networks.a.classes must be set, got 0",
        ),
        (ModelSettings("mlp", dtype="float16"), {}, CONTEXT, "dtype must be an existing name, got 'float16'"),
        (
            ModelSettings("mlp"),
            {"width": 3},
            CONTEXT,
            "got 'width'. Did you mean 'widths'",
        ),
        (
            ModelSettings("encoder"),
            {"vocabulary": 9, "heads": 5},
            TEXTS,
            "networks.a: width must be a multiple of heads=5, got 768",
        ),
    ],
)
def test_models_that_cannot_be_built(settings, fields, context, message):
    with pytest.raises(UserError, match=message):
        build_module("a", settings, fields, context)


def test_inputs_of_a_module_are_images_unless_it_names_others():
    assert inputs_of(object()) == ("image",)
    assert inputs_of(Decoder)[0] == "tokens"


def test_a_network_gets_the_images_it_was_trained_on_unless_its_entry_sets_others():
    assert build_preprocess("a", PreprocessSettings(), CONTEXT) is None
    large = ImageSpec((16, 16, 1), (0.1,), (0.2,))
    trained = Context(10, IMAGES, trained_on={"a": large})
    assert build_preprocess("a", PreprocessSettings(), trained).wanted == large
    assert build_preprocess("b", PreprocessSettings(), trained) is None
    expected = ImageSpec((4, 4, 1), (0.3,), (0.25,))
    assert build_preprocess("a", PreprocessSettings(size=4, mean=(0.3,)), CONTEXT).wanted == expected


@pytest.mark.parametrize(
    ("settings", "context", "message"),
    [
        (PreprocessSettings(size=4), TEXTS, "networks.a.preprocess must be absent, since 'texts' has texts"),
        (PreprocessSettings(channels=3), CONTEXT, "preprocess.channels must come with mean and std of as many numbers"),
        (PreprocessSettings(mean=(0.1, 0.2)), CONTEXT, "must have mean and std of 1 numbers, std above 0"),
        (PreprocessSettings(std=(0.0,)), CONTEXT, "must have mean and std of 1 numbers, std above 0"),
        (PreprocessSettings(mean=(float("inf"),)), CONTEXT, "must have mean and std of 1 numbers"),
    ],
)
def test_preprocessing_that_does_not_fit_the_data(settings, context, message):
    with pytest.raises(UserError, match=message):
        build_preprocess("a", settings, context)


def test_an_encoder_has_no_classes_and_the_dtype_of_its_model():
    nested = {"encoder": NestedModel.parse({"model": "cifar_resnet", "depth": 8}, "encoder"), "width": 8}
    module = build_module("a", ModelSettings("fpn_segmenter", dtype="bfloat16"), nested, CONTEXT)
    assert module == FPNSegmenter(10, CifarResNet(0, depth=8, dtype=jnp.bfloat16), width=8, dtype=jnp.bfloat16)


@pytest.mark.parametrize("name", ["decoder", "fpn_segmenter"])
def test_an_encoder_must_be_a_classifier_of_images(name):
    nested = {"encoder": NestedModel.parse({"model": name}, "encoder")}
    with pytest.raises(UserError, match=f"networks.a: encoder.model must be a classifier of images, got '{name}'"):
        build_module("a", ModelSettings("fpn_segmenter"), nested, CONTEXT)


def test_networks_that_predict_places_keep_the_size_of_the_images():
    """A network that was trained on 16 x 16 gets 8 x 8, with its own standardisation."""
    trained_on = {"a": ImageSpec((16, 16, 1), (0.25,), (0.5,))}
    context = dataclasses.replace(CONTEXT, trained_on=trained_on, keeps_size=True)
    change = build_preprocess("a", PreprocessSettings(), context)
    assert change(jnp.zeros((1, 8, 8, 1))).shape == (1, 8, 8, 1)
    with pytest.raises(UserError, match="networks.a.preprocess.size must be 0"):
        build_preprocess("a", PreprocessSettings(size=16), context)
