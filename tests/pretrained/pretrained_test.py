"""Weights of another format: what is missing, unexpected or of another shape, and reading onto devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxdistill.config.references import TAIL
from jaxdistill.core import path_name
from jaxdistill.errors import UserError
from jaxdistill.models.encoder import Encoder
from jaxdistill.models.fpn_segmenter import FPNSegmenter
from jaxdistill.models.resnet import ResNet
from jaxdistill.pretrained import open_weights
from jaxdistill.pretrained.pretrained import Pretrained
from jaxdistill.pretrained.tensors import read_safetensors, write_safetensors
from jaxdistill.pretrained.writer import find_family, make_tensors
from jaxdistill.train.mesh import make_mesh
from pretrained_folders import LAYERS, bert_tensors, write_bert


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"))


def opened(folder, blocks=()):
    return open_weights("hf", folder, f"hf:{folder}").taking(blocks)


def shapes_of(pretrained, **changed):
    module = Encoder(**{**pretrained.correspondence.fields, **changed})
    return jax.eval_shape(lambda: module.init(jax.random.key(0), jnp.zeros((1, 5), jnp.int32)))


def flat(tree):
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def test_each_array_is_its_tensor(folder):
    pretrained, tensors = opened(folder), bert_tensors()
    arrays = flat(pretrained.read(shapes_of(pretrained)))
    assert {name: x.shape for name, x in arrays.items()} == {
        name: x.shape for name, x in flat(shapes_of(pretrained)).items()
    }
    query = tensors["bert.encoder.layer.1.attention.self.query.weight"]
    np.testing.assert_array_equal(arrays["params/block1/attention/query/kernel"], query.T.reshape(8, 2, 4))
    np.testing.assert_array_equal(arrays["params/head/kernel"], tensors["classifier.weight"].T)
    assert sum(x.size for x in arrays.values()) == sum(x.size for x in tensors.values())


@pytest.mark.parametrize("scan", [False, True])
def test_tensors_that_files_lack_are_no_mistake_of_the_config(tmp_path, scan):
    tensors = bert_tensors()
    del tensors["bert.encoder.layer.1.output.dense.bias"]
    pretrained = opened(write_bert(tmp_path, tensors))
    with pytest.raises(UserError, match=r"feed_forward.down.bias(?s:.*)lack tensors that belong to them") as caught:
        pretrained.check(shapes_of(pretrained, scan=scan))
    assert "Correct the fields" not in str(caught.value)
    with pytest.raises(UserError, match="Correct the fields"):
        pretrained.check(shapes_of(pretrained, layers=3, scan=scan))


def test_scanned_layers_are_stacked(folder):
    pretrained = opened(folder)
    looped = flat(pretrained.read(shapes_of(pretrained)))
    scanned = flat(pretrained.read(shapes_of(pretrained, scan=True)))
    for name in ("attention/query/kernel", "norm2/scale", "feed_forward/down/bias"):
        blocks = [looped[f"params/block{i}/{name}"] for i in range(LAYERS)]
        np.testing.assert_array_equal(scanned[f"params/blocks/{name}"], np.stack(blocks))


def test_each_device_gets_its_part(folder):
    pretrained, mesh = opened(folder), make_mesh({"data": 2, "fsdp": 4})
    whole = flat(pretrained.read(shapes_of(pretrained)))

    def place(struct):
        axes = ["fsdp" if size % 4 == 0 else None for size in struct.shape]
        first = axes.index("fsdp") if "fsdp" in axes else len(axes)
        spec = PartitionSpec(*[name if axis == first else None for axis, name in enumerate(axes)])
        return jax.ShapeDtypeStruct(struct.shape, struct.dtype, sharding=NamedSharding(mesh, spec))

    for changed in ({}, {"scan": True}):
        structs = jax.tree.map(place, shapes_of(pretrained, **changed))
        arrays = flat(pretrained.read(structs))
        assert all(x.sharding == flat(structs)[name].sharding for name, x in arrays.items())
        np.testing.assert_array_equal(arrays["params/embed/embedding"], whole["params/embed/embedding"])
        embedding = arrays["params/embed/embedding"]
        assert {shard.data.shape for shard in embedding.addressable_shards} == {(5, 8)}


def test_differences_are_listed_before_anything_is_read(folder, tmp_path):
    pretrained = opened(folder)
    with pytest.raises(UserError, match="expected") as caught:
        pretrained.check(shapes_of(pretrained, layers=3, hidden=16, segments=0))
    text = str(caught.value)
    assert "- params.block2.attention.key.kernel [8, 2, 4]: (nothing)" in text
    assert (
        "- params.block0.feed_forward.up.kernel [8, 16]\n  + bert.encoder.layer.0.intermediate.dense.weight [12, 8]"
        in text
    )
    assert "and 4 more" in text
    extra = opened(write_bert(tmp_path, bert_tensors() | {"bert.adapter.weight": np.zeros((2, 2), np.float32)}))
    with pytest.raises(UserError, match=r"\+ bert.adapter.weight \[2, 2\]: \(no array of the network\)"):
        extra.check(shapes_of(extra))


def test_a_head_of_another_size_is_new_only_where_that_is_set(folder):
    pretrained = opened(folder)
    with pytest.raises(UserError, match=r"params.head.kernel \[8, 5\](.|\n)*head='new'"):
        pretrained.check(shapes_of(pretrained, classes=5))
    variables = pretrained.read(shapes_of(pretrained, classes=5), new_head=True)
    assert "head" not in variables["params"]
    assert variables["params"]["pooler"]["kernel"].shape == (8, 8)  # as transformers keeps it


def test_a_network_without_a_head_needs_a_new_one(tmp_path):
    pretrained = opened(write_bert(tmp_path, bert_tensors("", classes=0), architectures=["BertModel"], id2label=None))
    with pytest.raises(UserError, match="head='new'"):
        pretrained.check(shapes_of(pretrained))
    pretrained.check(shapes_of(pretrained), new_head=True)


def test_some_blocks(folder):
    pretrained = opened(folder, blocks=(1,))
    arrays = flat(pretrained.read(shapes_of(pretrained, layers=1)))
    expected = bert_tensors()["bert.encoder.layer.1.output.LayerNorm.weight"]
    np.testing.assert_array_equal(arrays["params/block0/norm2/scale"], expected)


@pytest.mark.parametrize("blocks", [(0, 2), (-1,)])
def test_blocks_that_are_not_there_are_refused(folder, blocks):
    with pytest.raises(UserError, match=rf"blocks of weights=.* numbers from 0 to 1, got \[{max(blocks, key=abs)}\]"):
        opened(folder, blocks=blocks)


def test_numbers_that_are_no_weights_are_refused(folder, tmp_path):
    tensors = bert_tensors()
    tensors["classifier.bias"][1] = np.nan
    broken = opened(write_bert(tmp_path, tensors))
    with pytest.raises(UserError, match="got NaN in params.head.bias"):
        broken.read(shapes_of(broken))
    pretrained = opened(folder)
    quantized = {name: dataclasses.replace(x, dtype="I8") for name, x in pretrained.tensors.items()}
    pretrained = dataclasses.replace(pretrained, tensors=quantized)
    with pytest.raises(UserError, match=r"must be floating-point numbers .*\(I8\)"):
        pretrained.check(shapes_of(pretrained))


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.float64])
def test_other_floats_become_float32(tmp_path, dtype):
    tensors = {name: x.astype(dtype) for name, x in bert_tensors().items()}
    pretrained = opened(write_bert(tmp_path, tensors))
    bias = flat(pretrained.read(shapes_of(pretrained)))["params/head/bias"]
    assert bias.dtype == jnp.float32
    np.testing.assert_array_equal(bias, tensors["classifier.bias"].astype(np.float32))


def test_the_fingerprint_is_of_the_contents(folder, tmp_path):
    first = opened(folder).fingerprint()
    assert opened(write_bert(tmp_path / "same")).fingerprint() == first
    assert opened(write_bert(tmp_path / "other", bert_tensors(seed=1))).fingerprint() != first


def test_a_classifier_is_the_encoder_of_another_network(tmp_path):
    """Its head is left out, and the arrays around the encoder may be missing."""
    fields = {"depth": 18, "depths": (1, 1), "width": 8}
    classifier = ResNet(3, **fields)
    x = jnp.zeros((1, 32, 32, 3))
    shapes = jax.eval_shape(classifier.init, jax.random.key(0), x)
    draw = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: draw.uniform(size=leaf.shape).astype(np.float32), shapes)
    path = tmp_path / "resnet.safetensors"
    _, correspondence = find_family("resnet", classifier)
    write_safetensors(path, make_tensors(correspondence, variables))
    pretrained = Pretrained("hf:x", (path,), read_safetensors(path), correspondence).as_part("encoder", TAIL)
    model = FPNSegmenter(5, encoder=ResNet(0, **fields), width=4)
    arrays = pretrained.read(jax.eval_shape(model.init, jax.random.key(0), x), new_head=True)
    assert {*arrays["params"]} == {*arrays["batch_stats"]} == {"encoder"}
    expected = {name: tree for name, tree in variables["params"].items() if name != "head"}
    jax.tree.map(np.testing.assert_array_equal, arrays["params"]["encoder"], expected)
    other = FPNSegmenter(5, encoder=ResNet(0, depth=18, depths=(1, 2), width=8))
    with pytest.raises(UserError, match="encoder.stage2_block1"):
        pretrained.check(jax.eval_shape(other.init, jax.random.key(0), x), new_head=True)
