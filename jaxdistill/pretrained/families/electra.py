"""ELECTRA, its discriminator and its generator.

Clark et al., ICLR 2020, https://arxiv.org/abs/2003.10555; names of transformers' `modeling_electra.py`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxdistill.pretrained.config_json import ACTIVATION_NAMES, ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import linear, norm
from jaxdistill.pretrained.families import bert

MODEL_TYPES = ("electra",)

IGNORED = (
    r"(electra\.)?embeddings\.position_ids",
    r"discriminator_predictions\..*",  # whether a token was replaced
    r"generator_lm_head\.weight",  # tied to the embedding
)


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of an `Encoder`.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `Encoder` does not have.
    """
    config.require_architecture(*(f"Electra{name}" for name in bert.CLASSES))
    over_tokens = config.architecture == "ElectraForMaskedLM"
    fields = bert.read_fields(config, over_tokens)
    width = config.number("embedding_size", 128)
    fields["pooler"] = "gelu"
    fields["embed_width"] = 0 if width == fields["width"] else width
    bert.check_gelu_head(config, over_tokens, "ELECTRA")
    prefix = "" if any(name.startswith("embeddings.") for name in names) else "electra."
    entries = bert.old_names(_entries(fields["layers"], prefix, over_tokens), names)
    return Correspondence("encoder", fields, entries, IGNORED, head=("params.head", "params.pooler."))


def _entries(layers: int, prefix: str, over_tokens: bool) -> Iterator[Entry]:
    yield from bert.embeddings(prefix)
    yield from linear("embed_wide", f"{prefix}embeddings_project")
    for i in range(layers):
        yield from bert.block(f"block{i}", f"{prefix}encoder.layer.{i}.")
    yield from linear("pooler", "classifier.dense")
    if not over_tokens:
        yield from linear("head", "classifier.out_proj", head=True)
        return
    yield from linear("head_dense", "generator_predictions.dense", head=True)
    yield from norm("head_norm", "generator_predictions.LayerNorm", head=True)
    yield Entry("params.head.bias", "generator_lm_head.bias", head=True)


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of an `Encoder` of a text's class, or of tokens, as ELECTRA has it.

    Raises:
        UserError: for fields that ELECTRA does not have.
    """
    over_tokens = fields["predicts"] == "token"
    check_fields("ELECTRA", fields, first=(0,), pooler=("gelu",))
    check_fields("ELECTRA", fields, activation=("gelu",) if over_tokens else ACTIVATION_NAMES)
    return bert.write_fields(fields) | {
        "architectures": ["ElectraForMaskedLM" if over_tokens else "ElectraForSequenceClassification"],
        "model_type": "electra",
        "embedding_size": fields["embed_width"] or fields["width"],
    }
