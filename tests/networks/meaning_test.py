"""Class names and tokenizers of networks, against those of the data."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.build.networks import build_networks
from jaxdistill.config.members import NetworkConfig
from jaxdistill.core import Output, Unembedding
from jaxdistill.errors import UserError
from jaxdistill.modules.preprocess import ImageSpec
from jaxdistill.networks import Context
from jaxdistill.networks.frozen import Frozen
from jaxdistill.networks.meaning import Meaning, own_names

SPEC = ImageSpec((2, 2, 1), (0.0,), (1.0,))
NAMES = ("cat", "dog", "fox", "owl")


DATA = Meaning(NAMES)


def build(stored, data=DATA, source="frozen", **options):
    raw = {"source": source, "model": "mlp", "widths": (3,), "weights": "stage:x"} | options
    config = {"teacher": NetworkConfig.parse(raw, "networks.teacher")}
    return build_networks(config, Context(4, SPEC, meanings={"image": data}, stored_meanings={"teacher": stored}))[
        "teacher"
    ]


@pytest.mark.parametrize("source", ["frozen", "trained"])
def test_classes_in_another_order_are_mapped_by_name(source):
    teacher = build(Meaning(("owl", "cat", "fox", "dog")), source=source)
    assert teacher.class_order == (1, 3, 2, 0)
    assert teacher.class_names == NAMES
    assert teacher.module_class_names == ("owl", "cat", "fox", "dog")  # as its own checkpoint stores them
    batch = {"image": jax.random.normal(jax.random.key(0), (5, 2, 2, 1))}
    variables = teacher.init(jax.random.key(1), batch, {}, {})
    plain = dataclasses.replace(teacher, class_order=())
    expected, _ = plain(variables, batch, {}, None)
    output, _ = teacher(variables, batch, {}, None)
    np.testing.assert_array_equal(output.logits, expected.logits[:, [1, 3, 2, 0]])


def test_logits_that_are_not_computed_yet_are_mapped_too():
    class Decoder(nn.Module):
        def __call__(self, x, train=True):
            kernel, bias = jnp.arange(12.0).reshape(3, 4), jnp.arange(4.0)
            return Output(Unembedding(x, kernel, bias))

    hidden = {"image": jnp.array([[1.0, 2.0, 3.0]])}
    logits = Frozen(Decoder(), class_order=(2, 0, 1, 3))({}, hidden, {}, None)[0].logits
    expected = hidden["image"] @ jnp.arange(12.0).reshape(3, 4) + jnp.arange(4.0)[None]
    np.testing.assert_array_equal(logits.dense(), expected[:, [2, 0, 1, 3]])


@pytest.mark.parametrize("stored", [(), NAMES])
def test_equal_or_unknown_names_change_nothing(stored):
    teacher = build(Meaning(stored))
    assert (teacher.class_order, teacher.class_names) == ((), NAMES)
    assert own_names(("0", "1", "2")) == ()
    assert own_names(("1", "0")) == ("1", "0")


def test_other_classes_are_those_of_a_frozen_network_and_are_learned_by_one_that_learns():
    other = Meaning(("bus", "car", "cat", "dog"))
    assert build(other).class_names == other.class_names
    assert build(other, source="trained").class_names == NAMES
    assert build(other, classes=7).class_names == ()


def test_another_tokenizer_is_refused():
    with pytest.raises(UserError, match="networks.teacher.weights must .* of 'bytes', got one trained on .* 'llama'"):
        build(Meaning(tokenizer="llama"), Meaning(tokenizer="bytes"))
    assert build(Meaning(tokenizer="llama"), Meaning()).class_order == ()


def test_features_of_other_transforms_are_refused():
    with pytest.raises(UserError, match="reads the data's features, .* fitted transforms abc, got one .* those of def"):
        build(Meaning(featurizer="def"), Meaning(featurizer="abc"))
    assert build(Meaning(featurizer="def"), Meaning()).class_order == ()


def test_the_first_outputs_can_be_kept():
    teacher = build(Meaning(), Meaning(), classes=6, keep_classes=4)
    batch = {"image": jax.random.normal(jax.random.key(0), (5, 2, 2, 1))}
    variables = teacher.init(jax.random.key(1), batch, {}, {})
    whole, _ = dataclasses.replace(teacher, class_order=())(variables, batch, {}, None)
    np.testing.assert_array_equal(teacher(variables, batch, {}, None)[0].logits, whole.logits[:, :4])
    with pytest.raises(UserError, match=r"networks.teacher.keep_classes must be in \[1, 6\], got 7"):
        build(Meaning(), Meaning(), classes=6, keep_classes=7)
