"""DistilBERT.

Sanh et al., 2019, https://arxiv.org/abs/1910.01108; names of transformers' `modeling_distilbert.py`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxdistill.pretrained.config_json import ACTIVATION_NAMES, ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import attention, linear, norm
from jaxdistill.pretrained.families.bert import CLASSES

MODEL_TYPES = ("distilbert",)

IGNORED = (
    r"(distilbert\.)?embeddings\.position_ids",
    r"vocab_projector\.weight",  # tied to the embedding
)


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of an `Encoder`.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `Encoder` does not have.
    """
    config.require_architecture(*(f"DistilBert{name}" for name in CLASSES))
    over_tokens = config.architecture == "DistilBertForMaskedLM"
    config.require("tie_word_embeddings", (True,) if over_tokens else (True, False))
    vocabulary = config.number("vocab_size", 30_522)
    fields = {
        "classes": vocabulary if over_tokens else config.num_labels,
        "predicts": "token" if over_tokens else "class",
        "vocabulary": vocabulary,
        "layers": config.number("n_layers", 6),
        "width": config.number("dim", 768),
        "heads": config.number("n_heads", 12),
        "hidden": config.number("hidden_dim", 3072),
        "length": config.number("max_position_embeddings", 512),
        "segments": 0,
        "activation": config.activation("activation"),
        "pooler": "relu",
        "dropout": float(config.number("dropout", 0.1)),
    }
    prefix = "" if any(name.startswith("embeddings.") for name in names) else "distilbert."
    entries = tuple(_entries(fields["layers"], prefix, over_tokens))
    return Correspondence("encoder", fields, entries, IGNORED, head=("params.head", "params.pooler."))


def _entries(layers: int, prefix: str, over_tokens: bool) -> Iterator[Entry]:
    for ours, theirs in (("embed", "word"), ("positions", "position")):
        yield Entry(f"params.{ours}.embedding", f"{prefix}embeddings.{theirs}_embeddings.weight")
    yield from norm("embed_norm", f"{prefix}embeddings.LayerNorm")
    for i in range(layers):
        yield from _block(f"block{i}", f"{prefix}transformer.layer.{i}.")
    yield from linear("pooler", "pre_classifier")
    if not over_tokens:
        yield from linear("head", "classifier", head=True)
        return
    yield from linear("head_dense", "vocab_transform", head=True)
    yield from norm("head_norm", "vocab_layer_norm", head=True)
    yield Entry("params.head.bias", "vocab_projector.bias", head=True)


def _block(name: str, prefix: str) -> Iterator[Entry]:
    yield from attention(name, f"{prefix}attention.", "{}_lin", "out_lin", of=("q", "k", "v"))
    yield from norm(f"{name}.norm1", f"{prefix}sa_layer_norm")
    yield from linear(f"{name}.feed_forward.up", f"{prefix}ffn.lin1")
    yield from linear(f"{name}.feed_forward.down", f"{prefix}ffn.lin2")
    yield from norm(f"{name}.norm2", f"{prefix}output_layer_norm")


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of an `Encoder` of a text's class, or of tokens, as DistilBERT has it.

    Raises:
        UserError: for fields that DistilBERT does not have.
    """
    check_fields("DistilBERT", fields, first=(0,), segments=(0,), pooler=("relu",), embed_width=(0,), epsilon=(1e-12,))
    check_fields("DistilBERT", fields, activation=ACTIVATION_NAMES)
    over_tokens = fields["predicts"] == "token"
    return {
        "architectures": ["DistilBertForMaskedLM" if over_tokens else "DistilBertForSequenceClassification"],
        "model_type": "distilbert",
        "vocab_size": fields["vocabulary"],
        "n_layers": fields["layers"],
        "dim": fields["width"],
        "n_heads": fields["heads"],
        "hidden_dim": fields["hidden"] or 4 * fields["width"],
        "max_position_embeddings": fields["length"],
        "activation": ACTIVATION_NAMES[fields["activation"]],
        "dropout": fields["dropout"],
        "attention_dropout": fields["dropout"],
        "seq_classif_dropout": fields["dropout"],
        "sinusoidal_pos_embds": False,
        "tie_word_embeddings": True,
    }
