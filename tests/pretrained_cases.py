"""Tiny networks of transformers, weights that are drawn by a rule, and the comparison with what they compute.

`golden_pretrained/make.py` stores outputs of transformers for these weights; `pretrained/live_test.py` computes more.
"""

import json
import pathlib
import zlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.config import registry
from jaxdistill.core import Output, count, dense
from jaxdistill.pretrained.config_json import ConfigJson
from jaxdistill.pretrained.correspondence import Correspondence
from jaxdistill.pretrained.formats import open_weights
from jaxdistill.pretrained.tensors import read_safetensors, write_safetensors
from jaxdistill.pretrained.writer import find_family, make_tensors

GOLDEN = pathlib.Path(__file__).parent / "golden_pretrained"
TOLERANCE = 1e-5
"""Of a difference, relative to the largest number of an array in float32."""

TEXT = {"vocab_size": 13, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20}
BERT = TEXT | {"max_position_embeddings": 11, "type_vocab_size": 2, "num_labels": 3}
LLAMA = TEXT | {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 16, "max_position_embeddings": 64}
LLAMA_3_1 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
IMAGE = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 12, "patch_size": 4}
VIT = IMAGE | {"intermediate_size": 20, "num_labels": 3}
DISTILBERT = {"vocab_size": 13, "dim": 12, "n_layers": 2, "n_heads": 3, "hidden_dim": 20, "max_position_embeddings": 11}
GPT2 = {"vocab_size": 13, "n_embd": 12, "n_layer": 2, "n_head": 3, "n_inner": 20, "n_positions": 11}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert_class": ("BertForSequenceClassification", BERT),
    "bert_token": ("BertForMaskedLM", BERT | {"hidden_act": "gelu_new"}),
    "roberta_class": ("RobertaForSequenceClassification", BERT | {"type_vocab_size": 1, "max_position_embeddings": 14}),
    "roberta_token": ("RobertaForMaskedLM", BERT | {"type_vocab_size": 1, "max_position_embeddings": 14}),
    "distilbert_class": ("DistilBertForSequenceClassification", DISTILBERT | {"num_labels": 3}),
    "distilbert_token": ("DistilBertForMaskedLM", DISTILBERT | {"activation": "relu"}),
    "electra_class": ("ElectraForSequenceClassification", BERT | {"embedding_size": 6}),
    "electra_token": ("ElectraForMaskedLM", BERT | {"embedding_size": 12}),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "llama_2": ("LlamaForCausalLM", LLAMA),
    "llama_3_1": (
        "LlamaForCausalLM",
        LLAMA | {"rope_parameters": LLAMA_3_1 | {"original_max_position_embeddings": 40}, "tie_word_embeddings": True},
    ),
    "mistral": ("MistralForCausalLM", LLAMA | {"sliding_window": 3}),
    "qwen2": ("Qwen2ForCausalLM", LLAMA | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", LLAMA | {"head_dim": 6}),
    "gemma": ("GemmaForCausalLM", LLAMA | {"head_dim": 6, "num_key_value_heads": 1}),
    "vit": ("ViTForImageClassification", VIT),
    "vit_base": ("ViTModel", VIT | {"pooler_output_size": 12}),
    "deit": ("DeiTForImageClassificationWithTeacher", VIT),
    "deit_token": ("DeiTForImageClassification", VIT),
    "dinov2": ("Dinov2ForImageClassification", IMAGE | {"mlp_ratio": 2, "num_labels": 3}),
    "dinov2_giant": ("Dinov2ForImageClassification", IMAGE | {"use_swiglu_ffn": True, "num_labels": 3}),
}
"""Networks by name: the class of transformers, and the keys of its config that are not its defaults."""

WITHOUT_HEAD: dict[str, tuple[str, dict[str, Any]]] = {
    "bert_base": ("BertModel", BERT),
    "distilbert_base": ("DistilBertModel", DISTILBERT),
    "electra_base": ("ElectraModel", BERT | {"embedding_size": 6}),
    "gpt2_base": ("GPT2Model", GPT2),
    "llama_base": ("LlamaModel", LLAMA),
    "dinov2_base": ("Dinov2Model", IMAGE),
}
"""More networks, whose outputs are not stored."""

TORCH = {
    "torchvision_vit": {"image_size": 12, "patch_size": 4, "hidden_dim": 128, "num_layers": 2, "mlp_dim": 20},
    "timm_vit": {"img_size": 12, "patch_size": 4, "embed_dim": 128, "depth": 2, "mlp_ratio": 0.25},
    "timm_deit": {"img_size": 12, "patch_size": 4, "embed_dim": 128, "depth": 2, "mlp_ratio": 0.25},
    "timm_dinov2": {"img_size": 12, "patch_size": 4, "embed_dim": 128, "depth": 2, "mlp_ratio": 0.25},
}
"""Networks of torchvision and timm by name; all have two heads and three classes."""


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the numbers of a tensor, which its name determines."""
    numbers = np.random.default_rng(zlib.crc32(name.encode())).normal(size=shape)
    return np.asarray(0.3 * numbers + 1.0 * ("norm" in name.lower() and name.endswith("weight")), np.float32)


def write_folder(folder: pathlib.Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Writes `config.json` and drawn tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", {name: draw(name, tuple(shape)) for name, shape in shapes.items()})


def make_inputs(name: str, length: int = 7, side: int = 0) -> dict[str, np.ndarray]:
    """Returns the inputs of a network: three texts, two of them padded, or two images of a side.

    Texts of an encoder are padded on the right, since transformers reads the first token; of a decoder also
    on the left.
    """
    _, config = (CASES | WITHOUT_HEAD)[name]
    random = np.random.default_rng(length)
    if "patch_size" in config:
        side = side or config["image_size"]
        return {"image": np.asarray(random.normal(size=(2, side, side, 3)), np.float32)}
    lengths = (length, max(length - 2, 1), max(length - 3, 1))
    mask = np.array([[place < n for place in range(length)] for n in lengths], np.int32)
    if name in DECODERS:
        mask[1] = mask[1, ::-1]
    tokens = np.asarray(random.integers(2, config["vocab_size"], mask.shape), np.int32)
    inputs = {"tokens": np.where(mask > 0, tokens, 1), "token_mask": mask}
    if config.get("type_vocab_size") == 2:
        inputs["segment"] = np.asarray(random.integers(0, 2, mask.shape), np.int32)
    return inputs


DECODERS = ("gpt2", "llama_2", "llama_3_1", "mistral", "qwen2", "qwen3", "gemma", "gpt2_base", "llama_base")


def read(path: pathlib.Path, inputs: Mapping[str, np.ndarray], **changed: Any) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the network in a folder or a file with its variables; `changed` are fields in place of those found there.

    A network without a head, whose name ends in base, has one of zeros.
    """
    weights = open_weights("torch" if path.is_file() else "hf", path, str(path))
    member = registry.find("model", weights.correspondence.model)
    model = member(**dict(weights.correspondence.fields) | changed)
    model = model.clone(dense=True) if hasattr(model, "dense") else model
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs[model.inputs[0]])
    params = weights.read(shapes, new_head=path.name.endswith("_base"))["params"]
    zeros = {key: jax.tree.map(lambda x: jnp.zeros(x.shape), tree) for key, tree in shapes["params"].items()}
    return model, {"params": zeros | params}


def run(path: pathlib.Path, inputs: Mapping[str, np.ndarray], **changed: Any) -> Output:
    """Returns the output of the network that `read` returns."""
    model, variables = read(path, inputs, **changed)
    more = {key: inputs[key] for key in model.inputs[1:] if key in inputs}
    return jax.jit(model.apply)(variables, inputs[model.inputs[0]], **more)


def check_bits(path: pathlib.Path, inputs: Mapping[str, np.ndarray], architecture: str) -> None:
    """Checks that a network leaves with the tensors that it came with, bit by bit, and as the same class."""
    model, variables = read(path, inputs)
    name = open_weights("hf", path, str(path)).correspondence.model
    config, correspondence = find_family(name, model)
    assert config["architectures"] == [architecture]
    written = make_tensors(correspondence, variables)
    stored = {key: tensor.open() for key, tensor in read_safetensors(path / "model.safetensors").items()}
    unread = {key for key in stored if correspondence.is_ignored(key)}
    assert written.keys() == stored.keys() - unread
    for key, array in written.items():
        assert array.tobytes() == stored[key].tobytes(), key


def compare(output: Output, expected: Mapping[str, np.ndarray], mask: np.ndarray | None) -> None:
    """Compares logits and taps with those of transformers, at tokens."""
    assert set(expected) - {"logits"} <= set(output.taps)
    for name, reference in expected.items():
        actual = np.asarray(dense(output.logits) if name == "logits" else output.tap(name))
        assert actual.shape == reference.shape, name
        if mask is not None and actual.ndim > 2:
            rows = np.moveaxis(actual, 1, 2) if name.endswith("/attention") else actual
            wanted = np.moveaxis(reference, 1, 2) if name.endswith("/attention") else reference
            actual, reference = rows[mask > 0], wanted[mask > 0]
        error = np.max(np.abs(actual - reference)) / np.max(np.abs(reference))
        assert error <= TOLERANCE, f"{name}: {error}"


def check_golden(name: str, folder: pathlib.Path, **changed: Any) -> None:
    """Compares a network with stored outputs of transformers, torchvision or timm."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        arrays = dict(stored)
    about = json.loads(str(arrays.pop("about")))
    write_folder(folder / name, about["config"], about["shapes"])
    inputs = {key: arrays.pop(f"input/{key}") for key in about["inputs"]}
    path = folder / name if about["config"] else folder / name / "model.safetensors"
    compare(run(path, inputs, **changed), arrays, inputs.get("token_mask"))
    if about["config"] and not name.endswith("_base"):
        check_bits(path, inputs, CASES[name][0])


def read_config(family: ModuleType, **keys: Any) -> Correspondence:
    """Returns what a family finds in a `config.json`, with the names of tensors that it would write."""
    kinds = {"model_type": family.MODEL_TYPES[0]}
    return family.from_config(ConfigJson(pathlib.Path("config.json"), kinds | keys), ())


def count_params(family: ModuleType, **keys: Any) -> int:
    """Returns the number of params of the network of a `config.json`."""
    found = read_config(family, **keys)
    model = registry.find("model", found.model)(**found.fields, scan=True)
    size = found.fields.get("size")
    first = jnp.zeros((1, size, size, 3)) if size else jnp.zeros((1, 2), jnp.int32)
    return count(jax.eval_shape(model.init, jax.random.key(0), first))


def check_written(family: ModuleType, name: str) -> None:
    """Checks that the config that a family writes has the fields that it read."""
    architecture, keys = CASES[name]
    fields = read_config(family, architectures=[architecture], **keys).fields
    defaults = registry.find("model", read_config(family, architectures=[architecture], **keys).model)(**fields)
    written = family.to_config({key: getattr(defaults, key) for key in (*fields, *WRITTEN) if hasattr(defaults, key)})
    labels = {"num_labels": 3} if "num_labels" in keys else {}
    assert read_config(family, **written, **labels).fields == fields


WRITTEN = ("first", "embed_width", "pooler", "window", "scaled", "qkv_bias", "qk_norm", "rotary_scaling")
WRITTEN += ("key_heads", "head_width", "hidden", "distillation", "pool", "layer_scale", "dropout")
