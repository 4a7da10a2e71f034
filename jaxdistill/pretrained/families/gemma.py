"""Gemma 1.

Gemma Team, 2024, https://arxiv.org/abs/2403.08295; names of transformers' `modeling_gemma.py`, which are Llama's. Its
norms are stored as the factor minus one, as `Decoder` has them.
"""

from collections.abc import Collection, Mapping
from typing import Any

from jaxdistill.pretrained.config_json import ConfigJson, check_fields
from jaxdistill.pretrained.correspondence import Correspondence
from jaxdistill.pretrained.families import llama

MODEL_TYPES = ("gemma",)

ACTIVATIONS = {"gelu": "geglu_tanh", "gelu_pytorch_tanh": "geglu_tanh", "gelu_new": "geglu_tanh"}
"""The files of Gemma name the exact GELU, and mean the other."""


def from_config(config: ConfigJson, names: Collection[str]) -> Correspondence:
    """Returns the correspondence of a `Decoder`.

    Args:
        config: of the folder.
        names: of its tensors.

    Raises:
        UserError: for a setting that `Decoder` does not have.
    """
    config.require("use_bidirectional_attention", (False,))
    config.choose("hidden_act", ACTIVATIONS, "gelu_pytorch_tanh")
    activation = config.choose("hidden_activation", ACTIVATIONS, "gelu_pytorch_tanh")
    fields = llama.read_fields(config, "Gemma") | {"norm": "rms_offset", "activation": activation, "scaled": True}
    fields["tied"] = bool(config.get("tie_word_embeddings", True))
    return llama.correspond(fields, names)


def to_config(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `config.json` of a `Decoder`, as Gemma has it.

    Raises:
        UserError: for fields that Gemma does not have.
    """
    check_fields("Gemma", fields, norm=("rms_offset",), activation=("geglu_tanh",), scaled=(True,), window=(0,))
    check_fields("Gemma", fields, qkv_bias=(False,), qk_norm=(False,), rotary_scaling=((),))
    activation = {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh"}
    return llama.write_fields(fields, "Gemma") | activation | {"model_type": "gemma"}
