"""Networks as tensors: the family that has them, bits that come back, and networks that no family has."""

import jax
import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.models.encoder import Encoder
from jaxdistill.models.mlp import MLP
from jaxdistill.models.vit import ViT
from jaxdistill.pretrained import open_weights
from jaxdistill.pretrained.writer import find_family, make_tensors
from pretrained_folders import bert_tensors, write_bert

SMALL = dict(classes=3, vocabulary=20, layers=2, width=8, heads=2, hidden=12, length=10, dropout=0.0)


def shapes(module):
    return jax.eval_shape(lambda: module.init(jax.random.key(0), np.zeros((1, 4), np.int32)))


@pytest.mark.parametrize("scan", [False, True])
def test_tensors_that_came_in_leave_with_the_same_bits(tmp_path, scan):
    write_bert(tmp_path)
    pretrained = open_weights("hf", tmp_path, "hf:bert")
    module = Encoder(**pretrained.correspondence.fields, scan=scan)
    _, correspondence = find_family("encoder", module)
    tensors = make_tensors(correspondence, pretrained.read(shapes(module)))
    before = bert_tensors()
    assert {name: x.tobytes() for name, x in tensors.items()} == {name: x.tobytes() for name, x in before.items()}


def test_the_config_describes_the_network():
    config, correspondence = find_family("encoder", Encoder(**(SMALL | {"hidden": 0})))
    assert config["model_type"] == "bert"
    assert config["intermediate_size"] == 32
    assert correspondence.fields["layers"] == 2


def test_networks_that_no_family_has_are_refused():
    with pytest.raises(UserError, match=r"families .*got the model 'mlp' .no family has this model.*Take the format"):
        find_family("mlp", MLP(classes=3))
    with pytest.raises(UserError, match="bert: first must be 0 to be written as BERT, got 3.*roberta: pooler must be"):
        find_family("encoder", Encoder(**SMALL, first=3, pooler="relu"))
    with pytest.raises(UserError, match="vit has no interpolate=True"):
        find_family("vit", ViT(3, patch=4, size=8, interpolate=True))


def test_an_array_without_a_tensor_is_refused():
    _, correspondence = find_family("encoder", Encoder(**SMALL))
    with pytest.raises(UserError, match=r"got none for \['params.adapter.kernel'\]"):
        make_tensors(correspondence, {"params": {"adapter": {"kernel": np.zeros((2, 2))}}})
