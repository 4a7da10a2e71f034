"""BERT and MiniLM, which has its form.

Devlin et al., NAACL 2019, https://arxiv.org/abs/1810.04805; names of transformers' `modeling_bert.py`.
"""

import dataclasses
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from jaxdistill.errors import UserError
from jaxdistill.pretrained.config_json import ACTIVATION_NAMES, ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import attention, linear, norm

MODEL_TYPES = ("bert",)

CLASSES = ("ForSequenceClassification", "ForMaskedLM", "ForPreTraining", "Model")
"""Ends of the names of transformers' classes whose heads, or absence of heads, `Encoder` has."""

IGNORED = (
    r"(bert\.)?embeddings\.position_ids",
    r"cls\.predictions\.decoder\.(weight|bias)",  # tied to the embedding, and to cls.predictions.bias
    r"cls\.seq_relationship\..*",
)


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of an `Encoder`.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `Encoder` does not have.
    """
    config.require_architecture(*(f"Bert{name}" for name in CLASSES))
    over_tokens = config.architecture in ("BertForMaskedLM", "BertForPreTraining")
    fields = read_fields(config, over_tokens)
    prefix = "" if any(name.startswith("embeddings.") for name in names) else "bert."
    ignored = (*IGNORED, r"bert\.pooler\..*") if over_tokens else IGNORED
    entries = old_names(_entries(fields["layers"], prefix, over_tokens), names)
    return Correspondence("encoder", fields, entries, ignored, head=("params.head", "params.pooler."))


def read_fields(config: ConfigJson, over_tokens: bool) -> dict[str, Any]:
    """Returns the fields of an `Encoder` by the keys of BERT, RoBERTa and ELECTRA.

    Args:
        config: of the folder.
        over_tokens: whether the network predicts tokens.

    Raises:
        UserError: for a setting that `Encoder` does not have.
    """
    config.require("position_embedding_type", ("absolute",))
    config.require("is_decoder", (False,))
    config.require("tie_word_embeddings", (True,) if over_tokens else (True, False))
    vocabulary = config.number("vocab_size")
    return {
        "classes": vocabulary if over_tokens else config.num_labels,
        "predicts": "token" if over_tokens else "class",
        "vocabulary": vocabulary,
        "layers": config.number("num_hidden_layers"),
        "width": config.number("hidden_size"),
        "heads": config.number("num_attention_heads"),
        "hidden": config.number("intermediate_size"),
        "length": config.number("max_position_embeddings"),
        "segments": config.number("type_vocab_size"),
        "epsilon": float(config.number("layer_norm_eps", 1e-12)),
        "activation": config.activation("hidden_act"),
        "dropout": float(config.number("hidden_dropout_prob", 0.0)),
    }


def check_gelu_head(config: ConfigJson, over_tokens: bool, family: str) -> None:
    """Raises `UserError` for a network over tokens with another activation than that of the family's head, a GELU."""
    if over_tokens and config.activation("hidden_act") != "gelu":
        raise UserError(
            f"hidden_act of {config.path} must be 'gelu' for a model of tokens, got {config['hidden_act']!r}. The head"
            f" of {family} is always a GELU; take other weights"
        )


def old_names(entries: Iterable[Entry], names: Collection[str]) -> tuple[Entry, ...]:
    """Returns entries with the names that norms had in TensorFlow, gamma and beta, if tensors have them."""
    if not any(name.endswith("LayerNorm.gamma") for name in names):
        return tuple(entries)

    def rename(tensor: str) -> str:
        return re.sub(r"LayerNorm\.bias$", "LayerNorm.beta", re.sub(r"LayerNorm\.weight$", "LayerNorm.gamma", tensor))

    return tuple(dataclasses.replace(entry, tensor=rename(entry.tensor)) for entry in entries)


def _entries(layers: int, prefix: str, over_tokens: bool) -> Iterator[Entry]:
    yield from embeddings(prefix)
    for i in range(layers):
        yield from block(f"block{i}", f"{prefix}encoder.layer.{i}.")
    yield from linear("pooler", f"{prefix}pooler.dense")
    if not over_tokens:
        yield from linear("head", "classifier", head=True)
        return
    yield from linear("head_dense", "cls.predictions.transform.dense", head=True)
    yield from norm("head_norm", "cls.predictions.transform.LayerNorm", head=True)
    yield Entry("params.head.bias", "cls.predictions.bias", head=True)


def embeddings(prefix: str) -> Iterator[Entry]:
    """Yields the entries of the embeddings of BERT, RoBERTa or ELECTRA."""
    for ours, theirs in (("embed", "word"), ("positions", "position"), ("segments", "token_type")):
        yield Entry(f"params.{ours}.embedding", f"{prefix}embeddings.{theirs}_embeddings.weight")
    yield from norm("embed_norm", f"{prefix}embeddings.LayerNorm")


def block(name: str, prefix: str) -> Iterator[Entry]:
    """Yields the entries of a block of BERT, RoBERTa or ELECTRA, whose tensors begin with `prefix`."""
    yield from attention(name, f"{prefix}attention.", "self.{}", "output.dense")
    yield from norm(f"{name}.norm1", f"{prefix}attention.output.LayerNorm")
    yield from linear(f"{name}.feed_forward.up", f"{prefix}intermediate.dense")
    yield from linear(f"{name}.feed_forward.down", f"{prefix}output.dense")
    yield from norm(f"{name}.norm2", f"{prefix}output.LayerNorm")


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of an `Encoder` of a text's class, or of tokens, as BERT has it.

    Raises:
        UserError: for fields that BERT does not have.
    """
    check_fields("BERT", fields, first=(0,), pooler=("tanh",), embed_width=(0,))
    over_tokens = fields["predicts"] == "token"
    return write_fields(fields) | {
        "architectures": ["BertForMaskedLM" if over_tokens else "BertForSequenceClassification"],
        "model_type": "bert",
    }


def write_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `read_fields` reads."""
    check_fields("BERT", fields, activation=ACTIVATION_NAMES)
    return {
        "vocab_size": fields["vocabulary"],
        "hidden_size": fields["width"],
        "num_hidden_layers": fields["layers"],
        "num_attention_heads": fields["heads"],
        "intermediate_size": fields["hidden"] or 4 * fields["width"],
        "hidden_act": ACTIVATION_NAMES[fields["activation"]],
        "hidden_dropout_prob": fields["dropout"],
        "attention_probs_dropout_prob": fields["dropout"],
        "max_position_embeddings": fields["length"],
        "type_vocab_size": fields["segments"],
        "layer_norm_eps": fields["epsilon"],
        "tie_word_embeddings": True,
    }
