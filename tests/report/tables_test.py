"""Tables as text and Markdown, and the numbers in their cells."""

import pytest

from jaxdistill.report import tables
from report_files import ROWS, cells


def test_table_is_aligned():
    assert tables.make_results_table(ROWS[:2]).to_text().splitlines() == [
        "network  parameters   FLOPs  accuracy     nll  agreement",
        "teacher   1,078,042  24.3 M    0.9000  0.1000          -",
        "plain        78,042   1.2 M    0.7500  0.3000     0.7000",
    ]


def test_markdown_escapes_what_would_end_a_cell():
    assert tables.make_results_table(
        [{"network": "a|b", "parameters": 1, "flops": 999, "f1": 0.5}]
    ).to_markdown().splitlines() == [
        "| network | parameters | FLOPs | f1 |",
        "| :-- | --: | --: | --: |",
        "| a\\|b | 1 | 999 | 0.5000 |",
    ]


def test_html_has_the_same_cells_with_marks_and_escapes_them():
    table = tables.Table(
        ["net", "f1"], [[tables.Cell("a<b>", label="reference"), tables.Cell("0.5", best=True)], ["c", "-"]]
    )
    html = table.to_html()
    assert cells(html) == [["net", "f1"], ["a&lt;b&gt; ", "0.5"], ["c", "-"]]
    assert '<th scope="row">a&lt;b&gt; <span class="role">reference</span></th>' in html
    assert html.count('class="best"') == 1
    assert '<td class="best">0.5</td>' in html


def test_a_mean_has_a_spread_if_there_are_several_and_none_if_one_is_missing():
    assert tables.format_mean([0.25, 0.75]) == "0.5000 ± 0.3536"
    assert tables.format_mean([0.25]) == "0.2500"
    assert tables.format_mean([0.25, None]) == "-"


@pytest.mark.parametrize(
    ("flops", "text"),
    [
        (1_234_567, "1.2 M"),
        (999_990, "1.0 M"),
        (41_500_000_000, "41.5 G"),
        (999, "999"),
        (512.0, "512"),
        (2048.0, "2.0 k"),
    ],
)
def test_flops_have_a_prefix(flops, text):
    assert tables.format_value(flops, "flops") == text


def test_costs_stand_first_in_their_order():
    rows = [{"network": "a", "accuracy": 0.5, "latency_ms": 1.0, "bytes": 4000, "flops": 1, "parameters": 1000}]
    rows += [{"network": "b", "accuracy": 0.5, "throughput": 12345.6, "nonzero": 10}]
    assert tables.make_results_table(rows).to_text().splitlines() == [
        "network  parameters  non-zero  bytes  FLOPs  latency (ms)  examples/s  accuracy",
        "a             1,000         -  4.0 k      1        1.0000           -    0.5000",
        "b                 -        10      -      -             -      12,346    0.5000",
    ]


ROUTED = [
    {"network": "teacher", "nll": 0.5, "nll:en:us": 0.25, "nll:fr": 0.75},
    {"network": "student", "nll": 1.0, "kl": 0.5, "nll:en:us": 1.5, "nll:fr": None, "kl:en:us": 0.125, "kl:fr": 0.25},
]


def test_parts_have_a_table_of_their_own():
    assert tables.make_results_table(ROUTED).columns == ["network", "parameters", "FLOPs", "nll", "kl"]
    assert tables.make_parts_table(ROUTED, "language", {"en:us": 12, "fr": 1}).to_text().splitlines() == [
        "network  language  examples     nll      kl",
        "teacher     en:us        12  0.2500       -",
        "teacher        fr         1  0.7500       -",
        "student     en:us        12  1.5000  0.1250",
        "student        fr         1       -  0.2500",
    ]
    assert tables.make_parts_table(ROWS) is None
    assert tables.find_parts(["pkg.mod:Top3", "pkg.mod:Top3:a", "pkg.mod"])["pkg.mod:Top3:a"] == ("pkg.mod:Top3", "a")
