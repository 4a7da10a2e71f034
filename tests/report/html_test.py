"""The page: well-formed, without outside resources, with every name escaped."""

import re

import pytest

import report_files
from jaxdistill.report import html, tables
from jaxdistill.report import write as report
from report_files import ROWS, fill, parsed, text_of


@pytest.fixture(scope="module")
def page():
    return report_files.page()


def test_page_is_well_formed_and_has_every_figure(page):
    labels = [element.get("aria-label") for element in parsed(page).iter() if element.get("role") == "img"]
    assert len(labels) == len(set(labels)) == 4 + 3 + 3 + 1 + 1 + 1


def test_page_has_every_network_and_number(page):
    text = text_of(page)
    for row in ROWS:
        assert row["network"] in text
        for column, value in row.items():
            assert tables.format_value(value, column) in text
    for wanted in ("24.3 M", "task", "kd", "student", "teach", "distil", "bee", "17", "0.0.1", "<&>"):
        assert wanted in text


def test_page_requests_nothing(page):
    assert not re.search(r"(src|href|action|data)\s*=\s*[\"']?\s*(https?:|//|file:)", page)
    assert not re.search(r"url\(\s*[\"']?(?!#|data:)", page)
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import", page)


def test_ids_of_the_figures_do_not_clash(page):
    ids = [element.get("id") for element in parsed(page).iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 0


def test_names_are_escaped_everywhere(tmp_path):
    name = "<script>alert('$\\no_{$')</script>\"&amp;"
    page = report.write_report(fill(tmp_path / "<b>", name=name)).read_text()
    assert "<script" not in page
    assert "<b>" not in page
    assert name in text_of(page)


def test_a_section_without_blocks_is_left_out():
    page = html.render_page("run", "none", [html.Section("Lanes", []), html.Section("Results", [html.Note("one")])])
    assert re.findall(r"<h2>(\w+)</h2>", page) == ["Results"]
