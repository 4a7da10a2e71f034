"""Folders of Hugging Face with a tiny BERT, and damaged ones."""

import json
import pathlib

import numpy as np

from jaxdistill.pretrained.tensors import write_safetensors

WIDTH, HIDDEN, LAYERS, VOCABULARY, LENGTH = 8, 12, 2, 20, 10

BERT = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": HIDDEN,
    "hidden_act": "gelu",
    "max_position_embeddings": LENGTH,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "id2label": {"0": "bad", "1": "good", "2": "so-so"},
}


def bert_tensors(prefix: str = "bert.", classes: int = 3, seed: int = 0, layers: int = LAYERS) -> dict[str, np.ndarray]:
    """Returns random tensors under the names that transformers gives them; no head for 0 classes."""
    shapes = {
        "embeddings.word_embeddings.weight": (VOCABULARY, WIDTH),
        "embeddings.position_embeddings.weight": (LENGTH, WIDTH),
        "embeddings.token_type_embeddings.weight": (2, WIDTH),
        **norm("embeddings.LayerNorm"),
        **linear("pooler.dense", WIDTH, WIDTH),
    }
    for i in range(layers):
        layer = f"encoder.layer.{i}."
        for part in ("query", "key", "value"):
            shapes |= linear(f"{layer}attention.self.{part}", WIDTH, WIDTH)
        shapes |= linear(f"{layer}attention.output.dense", WIDTH, WIDTH) | norm(f"{layer}attention.output.LayerNorm")
        shapes |= linear(f"{layer}intermediate.dense", HIDDEN, WIDTH) | linear(f"{layer}output.dense", WIDTH, HIDDEN)
        shapes |= norm(f"{layer}output.LayerNorm")
    named = {prefix + name: shape for name, shape in shapes.items()}
    named |= linear("classifier", classes, WIDTH) if classes else {}
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in named.items()}


def linear(name: str, out: int, into: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def norm(name: str) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}


def write_bert(folder: pathlib.Path, tensors: dict[str, np.ndarray] | None = None, **changed: object) -> pathlib.Path:
    """Writes a folder; keys of its config may be changed, and are left out if they are None."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {key: value for key, value in (BERT | changed).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", bert_tensors() if tensors is None else tensors)
    return folder


def write_shards(folder: pathlib.Path, count: int = 3) -> pathlib.Path:
    """Writes the same folder with several files of tensors and their index."""
    write_bert(folder)
    (folder / "model.safetensors").unlink()
    tensors, places = bert_tensors(), {}
    for shard in range(count):
        name = f"model-{shard + 1:05}-of-{count:05}.safetensors"
        part = {key: tensors[key] for key in sorted(tensors)[shard::count]}
        write_safetensors(folder / name, part)
        places |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder
