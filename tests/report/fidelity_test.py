"""Sections that compare networks with each other."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

import report_files
from jaxdistill.report import fidelity
from report_files import PREDICTIONS, parsed, text_of


@pytest.fixture(scope="module")
def page():
    return report_files.page()


def test_only_disagreements_are_shown_with_right_and_wrong_marked(page):
    images = [element.get("alt") for element in parsed(page).iter("img")]
    assert [alt for alt in images if alt.startswith("example")] == ["example 13", "example 15"]
    cards = page[page.index('alt="example 13"') :].split("<figure>")
    assert re.findall(r'title="(\w+)">(.)</span> (\w+)', cards[0]) == [
        ("right", "✓", "ant"),
        ("right", "✓", "ant"),
        ("wrong", "✗", "bee"),
    ]
    assert "true: unlabelled" in cards[1]
    assert re.findall(r'title="(\w+)">(.)</span>', cards[1]) == [("unlabelled", "·")] * 3
    assert "2 of the 3 examples" in page


def test_saliency_maps_are_beside_the_image(page):
    for index, place in ((13, 1), (15, 2)):
        card = page[: page.index(f"<span>#{index}</span>")].split('class="maps"')[-1]
        assert re.findall(r'alt="([^"]+)"', card)[1:] == [f"saliency of {name}, {index}" for name in PREDICTIONS]
        shown = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'base64,([^"]+)"', card)]
        assert [np.unique(image).tolist() for image in shown] == [[0], [place], [10 + place], [20 + place]]


def test_pairs_have_a_table_with_the_meaning_of_its_columns(page):
    section = page[page.index("<h2>Fidelity") : page.index("<h2>Where")]
    tables = section[section.index("<tbody>") : section.index("</tbody>")]
    lines = [re.findall(r"<t[hd][^>]*>([^<]*)<", line) for line in tables.split("</tr>")[:-1]]
    assert lines == [["plain : teacher", "0.3750", "-", "-"], ["pupil : plain", "0.0625", "-", "0.7500"]]
    text = text_of(page)
    assert "KL(reference || network) in nats" in text
    assert "the mean over 6 examples" in text
    assert "without saliency: forest." in text


def test_taps_are_drawn_for_the_pairs_that_have_them(page):
    figure = page[page.index('aria-label="CKA of plain : teacher"') :].split("</svg>")[0]
    assert re.findall(r">(\d\.\d\d)</text>", figure) == ["0.44"]
    assert "One of the two has no taps: pupil : plain." in text_of(page)


def test_agreement_is_the_share_of_equal_predictions(page):
    figure = page[page.index('aria-label="Agreement of the networks"') :].split("</svg>")[0]
    shares = re.findall(r">(\d\.\d{4})</text>", figure)
    assert shares == ["1.0000", "0.6667", "0.8333", "0.6667", "1.0000", "0.5000", "0.8333", "0.5000", "1.0000"]


def test_parts_of_a_pair_have_a_table_of_their_own():
    pair = {"network": "student", "reference": "teacher", "kl": 0.5, "kl:fr": 0.25, "kl:de": 0.75}
    found = [block for block in fidelity.fidelity({"pairs": [pair]}) if getattr(block, "kind", "") == "table"]
    assert [table.columns for table in found] == [["network : reference", "kl"], ["network", "route", "kl"]]
    assert found[1].rows == [["student : teacher", "fr", "0.2500"], ["student : teacher", "de", "0.7500"]]
