"""Compiled steps on eight devices: no device holds the activations of another's rows, in any family of models."""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import toy_texts
from jaxdistill.config import registry
from jaxdistill.core import Term
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.forward_kl import ForwardKL
from jaxdistill.methods.kd import KD
from jaxdistill.models.bag_of_embeddings import BagOfEmbeddings
from jaxdistill.models.bilstm import BiLSTM
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.convnext import ConvNeXt
from jaxdistill.models.decoder import Decoder
from jaxdistill.models.encoder import Encoder
from jaxdistill.models.mlp import MLP
from jaxdistill.models.mobilenet_v2 import MobileNetV2
from jaxdistill.models.resnet import ResNet
from jaxdistill.models.shufflenet_v1 import ShuffleNetV1
from jaxdistill.models.shufflenet_v2 import ShuffleNetV2
from jaxdistill.models.vgg import VGG
from jaxdistill.models.vit import ViT
from jaxdistill.models.wide_resnet import WideResNet
from jaxdistill.networks import Frozen, Trained
from jaxdistill.train import mesh as sharding
from jaxdistill.train import partitioning
from jaxdistill.train.init import init_state
from jaxdistill.train.loop import compile_steps
from jaxdistill.train.step import make_step

ROWS, LENGTH, SIDE, PATCHES = 8 * 11, 7, 12, 10
"""No dimension of a program but those that count rows is a multiple of 11."""

WHOLE = {ROWS * count for count in (1, LENGTH, PATCHES)}
"""Dimensions that count the whole batch's rows, tokens or patches; none of them is what a device with an eighth or a
quarter of the rows has, times heads (6), tokens, patches or pixels."""

WIDTH = {"width": 24, "heads": 6, "hidden": 48}
TEXT = {"vocabulary": 32, "length": LENGTH}
FAMILIES = {
    "mlp": MLP(10, widths=(24, 18)),
    "cifar_resnet": CifarResNet(10, depth=8),
    "resnet": ResNet(10, depth=18),
    "wide_resnet": WideResNet(10, depth=10, width=1),
    "vgg": VGG(10, depth=11, norm=True, channels=(8, 8, 8, 8, 8), form="cifar"),
    "mobilenet_v2": MobileNetV2(10, width=0.25, depths=(1, 1, 1, 0, 0, 0, 0), form="cifar"),
    "shufflenet_v1": ShuffleNetV1(10, width=0.25, depths=(2,)),
    "shufflenet_v2": ShuffleNetV2(10, channels=(8, 16), depths=(2,), form="cifar"),
    "convnext": ConvNeXt(10, depths=(1, 1), widths=(8, 16), patch=2),
    "vit": ViT(10, patch=4, layers=1, **WIDTH),
    "encoder": Encoder(10, layers=1, **TEXT, **WIDTH),
    "bilstm": BiLSTM(10, vocabulary=32, embed_width=24, width=24, hidden=48),
    "bag_of_embeddings": BagOfEmbeddings(10, vocabulary=32, width=24, widths=(48,)),
    "decoder": Decoder(32, layers=1, length=LENGTH, tied=False, **WIDTH),
}
RESNEXT = ResNet(10, depth=50, width=8, depths=(1, 1), groups=4, width_per_group=32)
SCANNED = {name: dataclasses.replace(FAMILIES[name], layers=3, scan=True) for name in ("vit", "encoder", "decoder")}
MESHES = {
    "data": ({"data": 8}, []),
    "fsdp": ({"fsdp": 8}, ["fsdp:16"]),
    "tensor": ({"data": 4, "tensor": 2}, ["tensor"]),
    "mixed": ({"data": 2, "fsdp": 2, "tensor": 2}, ["tensor", "fsdp:16"]),
}
SLOW = pytest.mark.slow


def batch_of(model, rows, length):
    """Shapes of a prepared batch."""
    like = jax.ShapeDtypeStruct
    fields = {"index": like((rows,), jnp.int32), "view": like((rows,), jnp.int32), "mask": like((rows,), jnp.float32)}
    if "tokens" not in model.inputs:
        return fields | {"image": like((rows, SIDE, SIDE, 3), jnp.float32), "label": like((rows,), jnp.int32)}
    fields |= {"tokens": like((rows, length), jnp.int32), "token_mask": like((rows, length), jnp.int32)}
    if not isinstance(model, Decoder):
        return fields | {"label": like((rows,), jnp.int32)}
    return fields | {"label": like((rows, length), jnp.int32), "valid": like((rows, length), jnp.float32)}


def compiled_step(model, mesh, *, teacher=False, rows=ROWS, length=LENGTH):
    """Compiles a step that trains a model, with another of its kind as teacher on request."""
    networks: dict[str, Any] = {"student": Trained(model, input=model.inputs[0])}
    terms = {"task": Term(CrossEntropy(), teacher=None)}
    if teacher:
        networks["teacher"] = Frozen(model, input=model.inputs[0])
        # Not a divisor of the predictions: no chunk may gather those of other devices for it.
        terms["kd"] = Term(ForwardKL(chunk=64) if isinstance(model, Decoder) else KD())
    (sizes, entries), batch, tx = MESHES[mesh], batch_of(model, rows, length), optax.sgd(0.1, momentum=0.9)
    devices = sharding.make_mesh(sizes)
    state, frozen = jax.eval_shape(lambda: init_state(networks, terms, tx, batch, key=jax.random.key(0)))
    own = partitioning.NetworkRules(axes=getattr(model, "axes", ()))
    partitioner = partitioning.Partitioner(devices, partitioning.Rules.parse(entries), dict.fromkeys(networks, own))
    planned = [partitioner.partition(tree).shardings for tree in (state, {"frozen": frozen})]
    inputs = sharding.structs(batch, jax.tree.map(lambda _: sharding.over_rows(devices), batch))
    arguments = sharding.structs((state, frozen), (planned[0], planned[1]["frozen"]))
    step = make_step(networks, terms, tx)
    program = compile_steps(step, lambda resident, inputs: inputs, devices, planned[0])
    return program.lower(*arguments, {}, inputs).compile()


def whole_activations(compiled):
    """Returns the types of the arrays in one device's program that hold all rows of the batch."""
    types = set(re.findall(r"\b(?:f32|bf16)\[(\d+(?:,\d+)+)\]", compiled.as_text()))
    return sorted(shape for shape in types if WHOLE & set(map(int, shape.split(","))))


ON_ENCODERS = ("deeplab_v3", "fcos", "fpn_segmenter", "mlp_segmenter")
"""Models whose layers with many kernels are those of a family here."""


def test_every_family_is_here():
    assert sorted([*FAMILIES, *ON_ENCODERS]) == registry.names("model")


@pytest.mark.parametrize(
    "name", ["mlp", "decoder", "convnext", *(pytest.param(name, marks=SLOW) for name in ("vit", "encoder"))]
)
def test_weights_that_are_split_leave_the_activations_by_rows(name):
    assert whole_activations(compiled_step(SCANNED.get(name, FAMILIES[name]), "fsdp")) == []


GATHERED = {("resnext", mesh) for mesh in MESHES} | {("shufflenet_v1", "tensor"), ("shufflenet_v1", "mixed")}
"""XLA's partitioner gathers the rows for the gradient of a grouped convolution's kernel (jaxlib 0.10)."""


def cases():
    for name in (*FAMILIES, "resnext", *(f"scanned {name}" for name in SCANNED)):
        for mesh in MESHES:
            known = pytest.mark.xfail(strict=True, reason="XLA gathers the rows for grouped convolutions")
            yield pytest.param(name, mesh, marks=[known] if (name, mesh) in GATHERED else [])


@SLOW
@pytest.mark.parametrize(("name", "mesh"), [*cases()])
def test_a_step_with_a_teacher(name, mesh):
    model = SCANNED[name.split()[1]] if name.startswith("scanned") else (FAMILIES | {"resnext": RESNEXT})[name]
    assert whole_activations(compiled_step(model, mesh, teacher=True)) == []


@SLOW
@pytest.mark.parametrize("style", [toy_texts.LLAMA, {}, {"activation": "gelu"}], ids=["llama", "gpt", "gelu"])
def test_scanned_layers_need_no_more_memory_than_a_loop(style):
    """Long texts, so that scores are the largest arrays: a device has those of its own row, not of all eight."""
    looped = Decoder(512, layers=4, length=128, width=64, heads=4, hidden=256, **style)
    programs = [
        compiled_step(dataclasses.replace(looped, scan=scan), "fsdp", rows=8, length=128) for scan in (False, True)
    ]
    assert not re.search(r"f32\[8,\d+,128,128\]", programs[1].as_text())
    memory = [program.memory_analysis().temp_size_in_bytes for program in programs]
    assert memory[1] <= 1.1 * memory[0]
