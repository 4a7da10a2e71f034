"""Section of the report with texts that networks write after the same prompts."""

from collections.abc import Mapping
from typing import Any

from jaxdistill.report.html import Block, Note, Text, Texts, Writing


def written(predictions: Mapping[str, Any], evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the prompts of some examples, with the data's answer and that of each network below."""
    samples = evaluation.get("texts")
    if not samples:
        return [
            Note(
                "No texts were written: evaluate.texts is 0, or no network can store the keys and values of the tokens"
                " before, as a decoder does."
            )
        ]
    note = (
        "Prompts of the data, the data's answer, and what each network writes after the prompt if it always takes the"
        " likeliest token, as many as the answer has: ✓ is the answer token for token. NLL is the mean negative"
        " log-likelihood of a token of the data's answer, in nats, after the right tokens before it. ⏎ ends a line."
    )
    return [Note(note), Texts([_make_text(sample) for sample in samples])]


def _make_text(sample: Mapping[str, Any]) -> Text:
    writings = [Writing("data", show(sample["answer"]), "", "")]
    writings += [
        Writing(name, show(row["text"]), "right" if row["exact"] else "wrong", f"{row['nll']:.3f}")
        for name, row in sample["networks"].items()
    ]
    return Text(show(sample["prompt"]), sample["index"], writings)


def show(text: str) -> str:
    """Returns a text with its ends of lines marked, and a sign for what cannot be printed, which XML forbids."""
    marked = text.replace("\n", "⏎\n")
    return "".join(x if x.isprintable() or x == "\n" else "�" for x in marked).removesuffix("\n")
