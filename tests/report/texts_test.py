"""Texts of networks on the page: side by side, marked, and with what XML forbids replaced."""

import xml.etree.ElementTree as ElementTree

from jaxdistill.report import texts
from jaxdistill.report.html import Section, Texts, render_page

SAMPLE = {
    "index": 7,
    "prompt": "1+2=\x00",
    "answer": "3\n",
    "networks": {
        "teacher": {"text": "3\n", "exact": True, "nll": 0.0123},
        "student": {"text": "4\n<b>", "exact": False, "nll": 1.5},
    },
}


def test_answers_stand_below_the_prompt_with_marks_and_likelihoods():
    note, block = texts.written({}, {"texts": [SAMPLE]})
    assert isinstance(block, Texts)
    page = render_page("run", "", [Section("Texts", [note, block])])
    figure = next(x for x in ElementTree.fromstring(page.partition("\n")[2]).iter("figure"))
    assert "".join(next(figure.iter("figcaption")).itertext()) == "1+2=� #7"
    rows = [["".join(cell.itertext()) for cell in row] for row in figure.iter("tr")]
    assert rows == [
        ["data", "", "3⏎", ""],
        ["teacher", "✓", "3⏎", "NLL 0.012"],
        ["student", "✗", "4⏎\n<b>", "NLL 1.500"],
    ]


def test_without_texts_a_note_has_the_reason():
    (note,) = texts.written({}, {})
    assert "evaluate.texts" in note.text
