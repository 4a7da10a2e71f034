"""Llama 1 to 3, Mistral, Qwen2 and Qwen3, which differ by few settings.

Touvron et al., 2023, https://arxiv.org/abs/2302.13971, and the papers of `models/decoder.py`; names of transformers'
`modeling_llama.py`, which the others share.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError, unknown
from jaxdistill.pretrained.config_json import ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.layouts import HEADS, HEADS_BIAS, LINEAR, OUT

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")

NAMES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}

SCALINGS = ("default", "llama3")
"""Kinds of rotary positions."""


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of a `Decoder`.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `Decoder` does not have.
    """
    kind = config["model_type"]
    activation = config.choose("hidden_act", {"silu": "swiglu", "swish": "swiglu"}, "silu")
    fields = read_fields(config, NAMES[kind]) | {"norm": "rms", "activation": activation, "window": _window(config)}
    fields |= {"qkv_bias": kind == "qwen2", "qk_norm": kind == "qwen3"}
    fields["tied"] = bool(config.get("tie_word_embeddings", False))
    return correspond(fields, names)


def read_fields(config: ConfigJson, name: str) -> dict[str, Any]:
    """Returns the fields of a `Decoder` by the keys that all of these networks have.

    Args:
        config: of the folder.
        name: of the network in the names of transformers' classes.

    Raises:
        UserError: for a setting that `Decoder` does not have.
    """
    config.require_architecture(f"{name}ForCausalLM", f"{name}Model")
    config.require("attention_bias", (False,))
    config.require("mlp_bias", (False,))
    width, heads = config.number("hidden_size"), config.number("num_attention_heads")
    base, scaling = _rotary(config)
    return {
        "classes": config.number("vocab_size"),
        "layers": config.number("num_hidden_layers"),
        "width": width,
        "heads": heads,
        "key_heads": config.number("num_key_value_heads", heads),
        "head_width": config.number("head_dim", width // heads),
        "hidden": config.number("intermediate_size"),
        "positions": "rotary",
        "length": config.number("max_position_embeddings", 2048),
        "rotary_base": base,
        "rotary_scaling": scaling,
        "epsilon": float(config.number("rms_norm_eps", 1e-6)),
        "bias": False,
        "dropout": float(config.number("attention_dropout", 0.0)),
    }


def _rotary(config: ConfigJson) -> tuple[float, tuple[float, ...]]:
    """Returns the base of the wavelengths and Llama 3.1's scaling, by the keys of any version of transformers."""
    stored = config.get("rope_parameters") or config.get("rope_scaling") or {}
    base = float(stored.get("rope_theta", config.number("rope_theta", 10_000.0)))
    kind = stored.get("rope_type", stored.get("type", "default"))
    key = f"rope_type of {config.path}"
    if kind not in SCALINGS:
        raise unknown(key, kind, SCALINGS, "a scaling of rotary positions that is supported")
    partial = stored.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise UserError(
            f"partial_rotary_factor of {config.path} must be 1.0, got {partial}. A decoder rotates whole heads; take"
            " other weights"
        )
    if kind == "default":
        return base, ()
    numbers = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    missing = [number for number in numbers if number not in stored]
    if missing:
        raise UserError(f"{key} 'llama3' needs {missing}, got {sorted(stored)}. Download it again")
    return base, tuple(float(stored[number]) for number in numbers)


def _window(config: ConfigJson) -> int:
    """Returns the number of tokens that a token attends to, 0 for all; it must be the same in all layers."""
    layers, kinds = config.number("num_hidden_layers"), config.get("layer_types")
    if config["model_type"] == "llama":
        return 0
    if config["model_type"] == "mistral":
        window = config.get("sliding_window", 0) if "sliding_window" in config else 4096
        kinds = kinds or ["sliding_attention" if window else "full_attention"] * layers
    else:
        window = config.get("sliding_window", 4096) if config.get("use_sliding_window", False) else 0
        first = config.get("max_window_layers", 28) if window else layers
        kinds = kinds or ["sliding_attention" if layer >= first else "full_attention" for layer in range(layers)]
    if len(set(kinds)) > 1:
        raise UserError(
            f"layer_types of {config.path} must be one kind in all layers, got {sorted(set(kinds))}. The model has"
            " one window; take other weights"
        )
    return int(window) if kinds[0] == "sliding_attention" else 0


def correspond(fields: Mapping[str, Any], names: Collection[str]) -> Correspondence:
    """Returns the correspondence of a network with the names of Llama."""
    prefix = "" if any(name.startswith("layers.0.") for name in names) else "model."
    ignored = (r".*\.rotary_emb\.inv_freq", *([r"lm_head\.weight"] if fields["tied"] else []))
    return Correspondence("decoder", fields, tuple(_entries(fields["layers"], prefix)), ignored)


def _entries(layers: int, prefix: str) -> Iterator[Entry]:
    yield Entry("params.embed.embedding", f"{prefix}embed_tokens.weight")
    for i in range(layers):
        yield from _block(f"params.block{i}", f"{prefix}layers.{i}.")
    yield Entry("params.final_norm.scale", f"{prefix}norm.weight")
    yield Entry("params.head.kernel", "lm_head.weight", LINEAR, head=True)


def _block(name: str, prefix: str) -> Iterator[Entry]:
    yield Entry(f"{name}.norm1.scale", f"{prefix}input_layernorm.weight")
    for ours, theirs in (("query", "q"), ("key", "k"), ("value", "v")):
        yield Entry(f"{name}.attention.{ours}.kernel", f"{prefix}self_attn.{theirs}_proj.weight", HEADS)
        yield Entry(f"{name}.attention.{ours}.bias", f"{prefix}self_attn.{theirs}_proj.bias", HEADS_BIAS)
        if ours != "value":
            yield Entry(f"{name}.attention.{ours}_norm.scale", f"{prefix}self_attn.{theirs}_norm.weight")
    yield Entry(f"{name}.attention.out.kernel", f"{prefix}self_attn.o_proj.weight", OUT)
    yield Entry(f"{name}.norm2.scale", f"{prefix}post_attention_layernorm.weight")
    for part in ("gate", "up", "down"):
        yield Entry(f"{name}.feed_forward.{part}.kernel", f"{prefix}mlp.{part}_proj.weight", LINEAR)


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of a `Decoder`, as that one of these networks has it that its fields are of.

    Raises:
        UserError: for fields that none of them has.
    """
    check_fields("Llama", fields, norm=("rms",), activation=("swiglu",), scaled=(False,))
    kinds = (("qwen2", "qkv_bias"), ("qwen3", "qk_norm"), ("mistral", "window"))
    kind = next((kind for kind, key in kinds if fields[key]), "llama")
    config = write_fields(fields, NAMES[kind]) | {"model_type": kind, "hidden_act": "silu"}
    if kind == "qwen2":
        check_fields("Qwen2", fields, qk_norm=(False,))
    if kind != "llama":
        config["sliding_window"] = fields["window"] or None
    if kind.startswith("qwen"):
        config |= {"use_sliding_window": bool(fields["window"]), "max_window_layers": 0}
    return config


def write_fields(fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns what `read_fields` reads.

    Raises:
        UserError: for fields that no network with the names of Llama has.
    """
    check_fields(name, fields, positions=("rotary",), bias=(False,))
    rotary = {"rope_type": "default", "rope_theta": fields["rotary_base"]}
    if fields["rotary_scaling"]:
        factor, low, high, length = fields["rotary_scaling"]
        rotary |= {"rope_type": "llama3", "factor": factor, "low_freq_factor": low, "high_freq_factor": high}
        rotary |= {"original_max_position_embeddings": int(length)}
    return {
        "architectures": [f"{name}ForCausalLM"],
        "vocab_size": fields["classes"],
        "num_hidden_layers": fields["layers"],
        "hidden_size": fields["width"],
        "num_attention_heads": fields["heads"],
        "num_key_value_heads": fields["key_heads"] or fields["heads"],
        "head_dim": fields["head_width"] or fields["width"] // fields["heads"],
        "intermediate_size": fields["hidden"] or 4 * fields["width"],
        "max_position_embeddings": fields["length"],
        "rope_parameters": rotary,
        "rms_norm_eps": fields["epsilon"],
        "attention_bias": False,
        "attention_dropout": fields["dropout"],
        "tie_word_embeddings": fields["tied"],
    }
