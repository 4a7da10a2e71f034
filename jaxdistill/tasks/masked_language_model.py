"""Masked language modelling: the tokens that were hidden.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
NAACL 2019, https://arxiv.org/abs/1810.04805, section 3.1.
"""

from typing import ClassVar

import jax.numpy as jnp

from jaxdistill.core import UNLABELLED, Batch
from jaxdistill.data.dataset import Dataset
from jaxdistill.tasks.task import Field
from jaxdistill.tasks.text import TEXT_FIELDS, TextTask


class MaskedLanguageModel(TextTask):
    """Fields `tokens`, some of them replaced, `token_mask`, `segment` and `targets`, `[length]` each.

    `targets` is the original token at the positions to be predicted, and -1 elsewhere. Without it every token counts,
    and none has a label: networks are then compared with each other alone.
    """

    fields: ClassVar = TEXT_FIELDS | {"targets": Field(("length",), required=False)}
    axes: ClassVar = ("example", "token")
    metric_names: ClassVar = ("nll", "perplexity", "accuracy", "agreement", "kl")
    preferred: ClassVar = ("nll",)
    reads_class_labels: ClassVar = False
    class_noun: ClassVar = "tokens"
    remedy: ClassVar = "Use a network that predicts every token, such as an encoder with predicts='token'."

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return "targets" in dataset.fields

    @property
    def num_classes(self) -> int:
        return self.dataset.vocabulary

    @property
    def has_labels(self) -> bool:
        return "targets" in self.dataset.fields

    def align(self, batch: Batch) -> Batch:
        """Adds the hidden token as `label` and its `valid`, `[batch, length]`."""
        tokens = batch["tokens"]
        is_token = jnp.broadcast_to(batch["mask"][:, None] > 0, tokens.shape)
        if "token_mask" in batch:
            is_token &= batch["token_mask"] > 0
        label = batch.get("targets", jnp.full_like(tokens, UNLABELLED))
        valid = is_token & (label != UNLABELLED) if "targets" in batch else is_token
        return {**batch, "label": label, "valid": valid.astype(jnp.float32)}
