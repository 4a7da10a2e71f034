"""GPT-2.

Radford et al., 2019; names of transformers' `modeling_gpt2.py`, whose linear layers are `[in, out]`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxdistill.pretrained.config_json import ACTIVATION_NAMES, ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import norm
from jaxdistill.pretrained.layouts import HEADS_BIAS, HEADS_IN_FIRST, LINEAR, OUT_IN_FIRST

MODEL_TYPES = ("gpt2",)

MASKS = r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)"
"""Causal masks, which old files store."""


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of a `Decoder`.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `Decoder` does not have.
    """
    config.require_architecture("GPT2LMHeadModel", "GPT2Model")
    config.require("scale_attn_weights", (True,))
    config.require("scale_attn_by_inverse_layer_idx", (False,))
    config.require("add_cross_attention", (False,))
    width, tied = config.number("n_embd"), bool(config.get("tie_word_embeddings", True))
    fields = {
        "classes": config.number("vocab_size"),
        "layers": config.number("n_layer"),
        "width": width,
        "heads": config.number("n_head"),
        "hidden": config.number("n_inner", 4 * width),
        "positions": "learned",
        "length": config.number("n_positions"),
        "norm": "layer",
        "epsilon": float(config.number("layer_norm_epsilon", 1e-5)),
        "activation": config.activation("activation_function", "gelu_new"),
        "bias": True,
        "tied": tied,
        "dropout": float(config.number("resid_pdrop", 0.1)),
    }
    prefix = "" if any(name.startswith("h.0.") for name in names) else "transformer."
    ignored = (MASKS, r"lm_head\.weight") if tied else (MASKS,)
    return Correspondence("decoder", fields, tuple(_entries(fields["layers"], prefix)), ignored)


def _entries(layers: int, prefix: str) -> Iterator[Entry]:
    yield Entry("params.embed.embedding", f"{prefix}wte.weight")
    yield Entry("params.positions.embedding", f"{prefix}wpe.weight")
    for i in range(layers):
        yield from _block(f"block{i}", f"{prefix}h.{i}.")
    yield from norm("final_norm", f"{prefix}ln_f")
    yield Entry("params.head.kernel", "lm_head.weight", LINEAR, head=True)


def _block(name: str, prefix: str) -> Iterator[Entry]:
    yield from norm(f"{name}.norm1", f"{prefix}ln_1")
    for part, ours in enumerate(("query", "key", "value")):
        kernel, bias = (f"params.{name}.attention.{ours}.{array}" for array in ("kernel", "bias"))
        yield Entry(kernel, f"{prefix}attn.c_attn.weight", HEADS_IN_FIRST, part=part, parts=3, axis=1)
        yield Entry(bias, f"{prefix}attn.c_attn.bias", HEADS_BIAS, part=part, parts=3)
    yield Entry(f"params.{name}.attention.out.kernel", f"{prefix}attn.c_proj.weight", OUT_IN_FIRST)
    yield Entry(f"params.{name}.attention.out.bias", f"{prefix}attn.c_proj.bias")
    yield from norm(f"{name}.norm2", f"{prefix}ln_2")
    for ours, theirs in (("up", "c_fc"), ("down", "c_proj")):
        yield Entry(f"params.{name}.feed_forward.{ours}.kernel", f"{prefix}mlp.{theirs}.weight")
        yield Entry(f"params.{name}.feed_forward.{ours}.bias", f"{prefix}mlp.{theirs}.bias")


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of a `Decoder`, as GPT-2 has it.

    Raises:
        UserError: for fields that GPT-2 does not have.
    """
    check_fields("GPT-2", fields, positions=("learned",), norm=("layer",), bias=(True,), activation=ACTIVATION_NAMES)
    check_fields("GPT-2", fields, window=(0,), scaled=(False,), qk_norm=(False,))
    check_fields("GPT-2", fields, key_heads=(0, fields["heads"]))
    check_fields("GPT-2", fields, head_width=(0, fields["width"] // fields["heads"]))
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": fields["classes"],
        "n_layer": fields["layers"],
        "n_embd": fields["width"],
        "n_head": fields["heads"],
        "n_inner": fields["hidden"] or 4 * fields["width"],
        "n_positions": fields["length"],
        "layer_norm_epsilon": fields["epsilon"],
        "activation_function": ACTIVATION_NAMES[fields["activation"]],
        "embd_pdrop": fields["dropout"],
        "resid_pdrop": fields["dropout"],
        "attn_pdrop": fields["dropout"],
        "tie_word_embeddings": fields["tied"],
    }
