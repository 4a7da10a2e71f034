"""DeiT, with its distillation token.

Touvron et al., ICML 2021, https://arxiv.org/abs/2012.12877; names of transformers' `modeling_deit.py`, which are ViT's.
DeiT without the token is stored as ViT.
"""

from collections.abc import Collection, Mapping
from typing import Any

from jaxdistill.pretrained.config_json import ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence
from jaxdistill.pretrained.entries import linear
from jaxdistill.pretrained.families import vit

MODEL_TYPES = ("deit",)

BOTH = "DeiTForImageClassificationWithTeacher"
"""The class with the heads of both tokens; the other classes have the token, and no head for it."""


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of a `ViT`.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `ViT` does not have.
    """
    config.require_architecture(BOTH, "DeiTForImageClassification", "DeiTModel")
    both = config.architecture == BOTH
    prefix = "" if any(name.startswith("embeddings.") for name in names) else "deit."
    pool = "tanh" if f"{prefix}pooler.dense.weight" in names else "class"
    fields = vit.read_fields(config) | {"pool": pool, "distillation": "head" if both else "token"}
    if pool == "tanh":
        config.require("pooler_act", ("tanh",))
        config.require("pooler_output_size", (fields["width"],))
    entries = [*vit.entries_of(fields, prefix)]
    entries += linear("head", "cls_classifier" if both else "classifier", head=True)
    entries += linear("distillation_head", "distillation_classifier", head=True)
    ignored = (rf"{prefix}embeddings\.mask_token",)
    return Correspondence("vit", fields, tuple(entries), ignored, head=("params.head.", "params.distillation_head."))


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of a `ViT` with a distillation token, as DeiT has it.

    Raises:
        UserError: for fields that DeiT does not have.
    """
    check_fields("DeiT", fields, distillation=("head", "token"), pool=("class",), layer_scale=(0.0,))
    name = BOTH if fields["distillation"] == "head" else "DeiTForImageClassification"
    return vit.write_fields(fields, "DeiT") | {"architectures": [name], "model_type": "deit"}
