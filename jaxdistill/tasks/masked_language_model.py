"""Masked language modelling: the tokens that were hidden.

Devlin, Chang, Lee, Toutanova, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding",
NAACL 2019, https://arxiv.org/abs/1810.04805, section 3.1. A student is trained so on unlabelled text by DistilBERT
(https://arxiv.org/abs/1910.01108) and in the general stage of TinyBERT (https://arxiv.org/abs/1909.10351).
"""

import functools
from collections.abc import Callable
from typing import Any, ClassVar

import jax.numpy as jnp

from jaxdistill.core import UNLABELLED, Batch
from jaxdistill.data import masking
from jaxdistill.data.dataset import Dataset
from jaxdistill.data.tokenizers import MASKS
from jaxdistill.errors import UserError
from jaxdistill.tasks.task import Field
from jaxdistill.tasks.text import TEXT_FIELDS, TextTask


class MaskedLanguageModel(TextTask):
    """Fields `tokens`, some of them replaced, `token_mask`, `segment` and `targets`, `[length]` each.

    `targets` is the original token at the positions to be predicted, and -1 elsewhere. Texts of a tokenizer have no
    `targets` but the field `word`: words are then hidden at random, others in each epoch, and always the same in an
    evaluation (`data/masking.py`). Without either every token counts, and none has a label: networks are then compared
    with each other alone.
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
        return "targets" in self.dataset.fields or self.draws_masks

    @property
    def draws_masks(self) -> bool:
        """Whether words are hidden at random."""
        return "word" in self.dataset.fields and "targets" not in self.dataset.fields and self.dataset.mask_token >= 0

    def network_inputs(self, *, augmented: bool) -> list[str]:
        return ["tokens"]

    def check_dataset(self) -> None:
        super().check_dataset()
        if "word" in self.dataset.fields and self.dataset.tokenizer and self.dataset.mask_token < 0:
            raise UserError(
                f"data.tokenizer must have a mask token for task {self.name!r}, got {self.dataset.tokenizer!r} without"
                f" one of {list(MASKS)}. Take another tokenizer, or set task='language_model'"
            )

    def prepare(self, batch: Batch) -> Batch:
        views = jnp.full_like(batch["view"], masking.EVALUATION)
        return {**self._hide({**batch, "view": views}, masking.EVALUATION), "view": batch["view"]}

    def augment(self, *, seed: Any) -> Callable[[Batch], Batch]:
        return functools.partial(self._hide, seed=seed)

    def _hide(self, batch: Batch, seed: Any) -> Batch:
        if self.draws_masks:
            (length,), dataset = self.dataset.shape, self.dataset
            sizes = {"length": length, "mask_token": dataset.mask_token, "vocabulary": dataset.vocabulary}
            batch = masking.mask_words(batch, seed=seed, **sizes)
        return self.align(batch)

    def align(self, batch: Batch) -> Batch:
        """Adds the hidden token as `label` and its `valid`, `[batch, length]`."""
        tokens = batch["tokens"]
        is_token = jnp.broadcast_to(batch["mask"][:, None] > 0, tokens.shape)
        if "token_mask" in batch:
            is_token &= batch["token_mask"] > 0
        label = batch.get("targets", jnp.full_like(tokens, UNLABELLED))
        valid = is_token & (label != UNLABELLED) if "targets" in batch else is_token
        return {**batch, "label": label, "valid": valid.astype(jnp.float32)}
