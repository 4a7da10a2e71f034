"""The page of the report: sections of blocks as data, and one template that renders them.

The page is XML too, so that a test can prove it well formed, and its policy forbids every request.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any, ClassVar

from jaxdistill.report.tables import Table
from jaxdistill.report.template import load_template


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A sentence in the print of the page."""

    kind: ClassVar[str] = "sentence"
    text: str


@dataclasses.dataclass(frozen=True)
class Note:
    """A sentence in small print."""

    kind: ClassVar[str] = "note"
    text: str


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclasses.dataclass(frozen=True)
class Figures:
    """SVG figures in a grid.

    Attributes:
        svgs: from `report.figures`; they enter the page unescaped.
        layout: "", "small", or "single".
    """

    kind: ClassVar[str] = "figures"
    svgs: Sequence[str]
    layout: str = ""


@dataclasses.dataclass(frozen=True)
class Image:
    """A PNG with its text for screen readers, and the caption that it has if several stand side by side."""

    png: str
    alt: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The prediction of one network for one example.

    Attributes:
        network: its name.
        verdict: "right", "wrong" or "unlabelled".
        answer: the predicted class.
        confidence: as text; "" if it is not stored.
    """

    MARKS: ClassVar[dict[str, str]] = {"right": "✓", "wrong": "✗", "unlabelled": "·"}
    network: str
    verdict: str
    answer: str
    confidence: str

    @property
    def mark(self) -> str:
        return self.MARKS[self.verdict]


@dataclasses.dataclass(frozen=True)
class Card:
    """An example with its label and the predictions of all networks."""

    images: Sequence[Image]
    label: str
    index: int
    predictions: Sequence[Prediction]


@dataclasses.dataclass(frozen=True)
class Cards:
    """Examples in a grid."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]


@dataclasses.dataclass(frozen=True)
class Strip:
    """Pictures of one example side by side, with their captions."""

    images: Sequence[Image]
    title: str


@dataclasses.dataclass(frozen=True)
class Strips:
    """Examples one below the other, with several pictures each."""

    kind: ClassVar[str] = "strips"
    strips: Sequence[Strip]


@dataclasses.dataclass(frozen=True)
class Writing:
    """An answer to a prompt.

    Attributes:
        author: a network, or the data.
        text: the answer.
        verdict: "right", "wrong" or "" for the data's own.
        likelihood: of the data's answer, as text; "" for the data's own.
    """

    author: str
    text: str
    verdict: str
    likelihood: str

    @property
    def mark(self) -> str:
        return Prediction.MARKS.get(self.verdict, "")


@dataclasses.dataclass(frozen=True)
class Text:
    """A prompt with its answers."""

    prompt: str
    index: int
    writings: Sequence[Writing]


@dataclasses.dataclass(frozen=True)
class Texts:
    """Prompts one below the other, with their answers."""

    kind: ClassVar[str] = "texts"
    texts: Sequence[Text]


@dataclasses.dataclass(frozen=True)
class Definitions:
    """Terms with their meanings."""

    kind: ClassVar[str] = "definitions"
    meanings: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Code:
    """Preformatted text."""

    kind: ClassVar[str] = "code"
    text: str


@dataclasses.dataclass(frozen=True)
class Details:
    """A block that is folded under a summary."""

    kind: ClassVar[str] = "details"
    summary: str
    block: "Block"


Block = Sentence | Note | Heading | Figures | Cards | Strips | Texts | Definitions | Code | Details | Table


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading with its blocks; a section without blocks is left out."""

    title: str
    blocks: Sequence[Block]


def fold_json(summary: str, content: Any, name: str) -> Block:
    """Returns the content of a JSON file, folded, or a note that the file `name` is missing."""
    if content is None:
        return Note(f"{name} is missing.")
    return Details(summary, Code(json.dumps(content, indent=2, ensure_ascii=False)))


def render_page(title: str, summary: str, sections: Sequence[Section], heading: str = "Distillation report") -> str:
    """Renders the whole page; the heading stands above the title."""
    shown = [section for section in sections if section.blocks]
    return load_template().render(heading=heading, title=title, summary=summary, sections=shown)
