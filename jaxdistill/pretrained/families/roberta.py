"""RoBERTa.

Liu et al., 2019, https://arxiv.org/abs/1907.11692; names of transformers' `modeling_roberta.py`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jaxdistill.pretrained.config_json import ACTIVATION_NAMES, ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence, Entry
from jaxdistill.pretrained.entries import linear, norm
from jaxdistill.pretrained.families import bert

MODEL_TYPES = ("roberta",)

IGNORED = (
    r"(roberta\.)?embeddings\.position_ids",
    r"(roberta\.)?pooler\..*",  # no task has it: classifiers have a layer of their own
    r"lm_head\.decoder\.(weight|bias)",  # tied to the embedding, and to lm_head.bias
)


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of an `Encoder`.

    Positions count from `pad_token_id + 1`, and those of padding are of no consequence.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `Encoder` does not have.
    """
    config.require_architecture(*(f"Roberta{name}" for name in bert.CLASSES))
    over_tokens = config.architecture == "RobertaForMaskedLM"
    fields = bert.read_fields(config, over_tokens) | {"first": config.number("pad_token_id", 1) + 1}
    bert.check_gelu_head(config, over_tokens, "RoBERTa")
    prefix = "" if any(name.startswith("embeddings.") for name in names) else "roberta."
    entries = bert.old_names(_entries(fields["layers"], prefix, over_tokens), names)
    return Correspondence("encoder", fields, entries, IGNORED, head=("params.head", "params.pooler."))


def _entries(layers: int, prefix: str, over_tokens: bool) -> Iterator[Entry]:
    yield from bert.embeddings(prefix)
    for i in range(layers):
        yield from bert.block(f"block{i}", f"{prefix}encoder.layer.{i}.")
    yield from linear("pooler", "classifier.dense")
    if not over_tokens:
        yield from linear("head", "classifier.out_proj", head=True)
        return
    yield from linear("head_dense", "lm_head.dense", head=True)
    yield from norm("head_norm", "lm_head.layer_norm", head=True)
    yield Entry("params.head.bias", "lm_head.bias", head=True)


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of an `Encoder` of a text's class, or of tokens, as RoBERTa has it.

    Raises:
        UserError: for fields that RoBERTa does not have.
    """
    over_tokens = fields["predicts"] == "token"
    check_fields("RoBERTa", fields, pooler=("tanh",), embed_width=(0,))
    check_fields("RoBERTa", fields, activation=("gelu",) if over_tokens else ACTIVATION_NAMES)
    return bert.write_fields(fields) | {
        "architectures": ["RobertaForMaskedLM" if over_tokens else "RobertaForSequenceClassification"],
        "model_type": "roberta",
        "pad_token_id": fields["first"] - 1,
    }
