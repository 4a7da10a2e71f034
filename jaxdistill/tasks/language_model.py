"""Language modelling: the next token at every position."""

from collections.abc import Iterable
from typing import ClassVar

from jaxdistill.core import Batch
from jaxdistill.data.dataset import Dataset
from jaxdistill.errors import UserError
from jaxdistill.modules.logits_method import LogitsMethod
from jaxdistill.modules.next_token import align_next_tokens
from jaxdistill.networks import dependencies
from jaxdistill.tasks.task import Field, StageParts
from jaxdistill.tasks.text import TEACHER_FIELDS, TEXT_FIELDS, TextTask


class LanguageModel(TextTask):
    """Fields `tokens`, and optionally `token_mask`, `segment` and `answer_mask`, `[length]` each.

    `answer_mask` is above 0 for tokens to be learned. The same names with `teacher_` are the text in the teacher's own
    tokens, of another length.
    """

    fields: ClassVar = TEXT_FIELDS | {
        "answer_mask": Field(("length",), required=False),
        "span": Field(("length",), required=False),
        **TEACHER_FIELDS,
        "teacher_span": Field(("teacher_length",), required=False),
        "teacher_answer_mask": Field(("teacher_length",), required=False),
    }
    axes: ClassVar = ("example", "token")
    metric_names: ClassVar = (
        *("nll", "perplexity", "bits_per_byte", "bits_per_token", "accuracy", "exact_match"),
        *("agreement", "overlap5", "covered5", "kl"),
    )
    preferred: ClassVar = ("nll",)
    figures: ClassVar = ("texts",)
    reads_class_labels: ClassVar = False
    class_noun: ClassVar = "next tokens"
    remedy: ClassVar = (
        "Use a network that predicts every next token, such as a decoder, set evaluate.networks and"
        " evaluate.reference to networks of one kind, or set task='text_classification'."
    )

    @classmethod
    def is_default_for(cls, dataset: Dataset) -> bool:
        return "tokens" in dataset.fields and "targets" not in dataset.fields and not dataset.class_names

    @property
    def num_classes(self) -> int:
        return self.dataset.vocabulary

    @property
    def has_labels(self) -> bool:
        return True

    @property
    def metrics(self) -> tuple[str, ...]:
        absent = "bits_per_token" if self.dataset.of_bytes else "bits_per_byte"
        return tuple(name for name in self.metric_names if name != absent)

    def align(self, batch: Batch) -> Batch:
        """Adds the next token as `label` and its `valid`, `[batch, length]`; `teacher_valid` of the teacher's tokens.

        A position is valid if it and the next one hold tokens of one document, of which the next is to be learned.
        """
        return align_next_tokens(batch)

    def check(self, parts: StageParts) -> None:
        for name, term in parts.terms.items():
            if term.method.needs_labels and not isinstance(term.method, LogitsMethod):
                raise UserError(
                    f"term {name!r} must have labels, got {self.dataset.name!r} without any but next tokens, which"
                    f" {type(term.method).__name__} cannot learn. Use labelled data, or leave the term out."
                )
        super().check(parts)

    def check_measured(self, names: Iterable[str], parts: StageParts) -> None:
        for name in names:
            if getattr(parts.networks[name], "input", "tokens") == "teacher_tokens":
                raise UserError(
                    f"evaluate: network {name!r} must take 'tokens', got 'teacher_tokens', to which labels do not"
                    " belong. Leave it out of evaluate.networks and evaluate.reference."
                )
        super().check_measured(names, parts)

    def check_predictions(self, what: str, network: str, parts: StageParts) -> None:
        super().check_predictions(what, network, parts)
        for name in dependencies(parts.networks, [network]):
            if getattr(getattr(parts.networks[name], "module", None), "bidirectional", False):
                raise UserError(
                    f"{what} must not depend on later tokens, got {name!r}, which attends to the token that it"
                    " predicts. Take a decoder, or set task='masked_language_model'."
                )
