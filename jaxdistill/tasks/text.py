"""Tasks whose examples are texts, as tokens."""

from collections.abc import Mapping
from typing import Any, ClassVar

from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.modules.logits_method import LogitsMethod
from jaxdistill.tasks.task import Field, StageParts, Task

TEXT_FIELDS = {
    "tokens": Field(("length",)),
    "token_mask": Field(("length",), required=False),
    "segment": Field(("length",), required=False),
    "document": Field(("length",), required=False),
    "word": Field(("length",), required=False),
    "label": Field(),
}
"""`token_mask` is above 0 for tokens and 0 for padding; `segment` is the part of its text that a token is of, and
`document` the text, if a row has several; `word` is the position of the first token of its word."""

TEACHER_FIELDS = {
    name: Field(("teacher_length",), required=False)
    for name in ("teacher_tokens", "teacher_token_mask", "teacher_segment")
}
"""The text in the teacher's own tokens, of another length."""


class TextTask(Task):
    """A task on tokens, which are neither standardised nor augmented."""

    fields: ClassVar[Mapping[str, Field]] = TEXT_FIELDS
    inputs: ClassVar[tuple[str, ...]] = ("tokens", "token_mask", "segment", "document")

    def network_inputs(self, *, augmented: bool) -> list[str]:
        return [field for field in ("tokens", "teacher_tokens") if field in self.dataset.fields]

    def check_model(self, network: str, model: str, module: Any, *, field: str, models: Mapping[str, type]) -> None:
        super().check_model(network, model, module, field=field, models=models)
        if "document" in self.dataset.fields and "document" not in module.inputs:
            raise UserError(
                f"data.packing must be False with network {network!r} of model {model!r}, got True: it attends to all"
                " texts of a row. Take a decoder"
            )
        key = "vocabulary" if hasattr(module, "vocabulary") else "classes"
        vocabulary = {"tokens": self.dataset.vocabulary, "teacher_tokens": self.dataset.teacher_vocabulary}.get(
            field, 0
        )
        if getattr(module, key) < vocabulary:
            raise UserError(
                f"networks.{network}.{key} must be at least {vocabulary}, the {field} of {self.dataset.name!r}, got"
                f" {getattr(module, key)} (model {model!r}). Set {key}={vocabulary}, or take texts with"
                " the tokenizer of the network's weights."
            )

    def check(self, parts: StageParts) -> None:
        super().check(parts)
        for name, term in parts.terms.items():
            for network in filter(None, (term.student, term.teacher)):
                if compares_logits(term):
                    self.check_predictions(
                        f"term {name!r} ({type(term.method).__name__}): network {network!r}", network, parts
                    )


def compares_logits(term: Term) -> bool:
    """Returns whether the method of a term has one value per prediction."""
    return isinstance(term.method, LogitsMethod)
