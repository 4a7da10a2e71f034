"""Results of the benchmarks: one form, and every table of a page is made of its file."""

import importlib
import json
import re
import subprocess
import sys

import pytest

from conftest import ROOT

HERE = ROOT / "benchmarks"
sys.path.insert(0, str(HERE))
results, gpu = importlib.import_module("results"), importlib.import_module("gpu")

HEAD = {"command": "python x.py", "commit": "abc", "date": "2026-01-01", "device": "one"}
ROWS = [{"name": "ours", "ms": 12.5, "ratio": 2.0, "ratio_low": 1.9, "ratio_high": 2.1}]
MARKER = re.compile(r"<!-- (results|table): ([^\s,]+)")


def pages():
    return {page: (ROOT / page).read_text() for page in results.PAGES}


def store(folder, **content):
    (folder / "one.json").write_text(json.dumps(HEAD | content))


def test_all_tables_of_a_file_fill_a_page(tmp_path):
    store(tmp_path, conditions={"load": 0.5}, rows=[row | {"table": title} for title in ("A", "B") for row in ROWS])
    text = "before\n<!-- results: one.json -->\nold\n<!-- end -->\n<!-- results: two.json -->\n<!-- end -->\nafter"
    filled = results.fill(text, tmp_path)
    assert "old" not in filled
    assert "A:\n\n| name | ms | ratio |\n" in filled
    assert filled.count("| ours | 12.5 | 2.00 (1.90-2.10) |") == 2
    assert "Measured by `python x.py`: date 2026-01-01; commit abc; device one; load 0.5." in filled
    assert filled.endswith(f"<!-- results: two.json -->\n{results.NOT_MEASURED}\n<!-- end -->\nafter")
    assert results.fill(filled, tmp_path) == filled


def test_one_table_of_a_file_fills_a_page_without_its_title(tmp_path):
    store(tmp_path, rows=[row | {"table": title, "ms": ms} for title, ms in (("A", 1), ("B", 2)) for row in ROWS])
    filled = results.fill("<!-- table: one.json, B -->\n<!-- end -->", tmp_path)
    assert filled.count("| ours |") == 1
    assert "| ours | 2 |" in filled
    with pytest.raises(KeyError):
        results.fill("<!-- table: one.json, C -->\n<!-- end -->", tmp_path)


def test_results_that_a_script_wrote_do_not_make_its_commit_dirty(tmp_path, monkeypatch):
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    (tmp_path / "docs" / "results").mkdir(parents=True)
    for name in ("a.py", "docs/results/a.json"):
        (tmp_path / name).write_text("1")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(results, "ROOT", tmp_path)
    monkeypatch.setattr(results, "FOLDER", tmp_path / "docs" / "results")
    (tmp_path / "docs" / "results" / "a.json").write_text("2")
    assert re.fullmatch("[0-9a-f]{7,}", results.describe_commit())
    (tmp_path / "a.py").write_text("2")
    assert re.fullmatch("[0-9a-f]{7,}-dirty", results.describe_commit())


def test_a_table_has_titles_spreads_and_gains_and_marks_missing_numbers():
    gain = {"mean": 0.06, "std": 0.01, "n": 4}
    rows = [{"name": "kd", "f1": {"mean": 0.5, "std": 0.25, "n": 2}, "gain": gain, "size": 1234, "sees": "a|b"}]
    rows += [{"name": "none", "size": 0.123456, "sees": ""}]
    table = results.render_table(
        rows, {"columns": {"name": "net", "f1": "F1", "gain": "gain", "size": "s", "sees": "d"}, "gains": ["gain"]}
    )
    assert table.splitlines() == [
        "| net | F1 | gain | s | d |",
        "| --- | ---: | ---: | ---: | --- |",
        "| `kd` | 0.5000 ± 0.2500 | +0.0600 ± 0.0050 | 1,234 | a\\|b |",
        "| `none` | - |  | 0.12 |  |",
    ]


@pytest.mark.parametrize(
    ("number", "text"), [(0.00459, "0.0046"), (-0.0312, "-0.031"), (0.0, "0.00"), (12.345, "12.3"), (4567.8, "4,568")]
)
def test_small_numbers_keep_two_digits(number, text):
    assert results.render_table([{"size": number}], {}).splitlines()[-1] == f"| {text} |"


@pytest.mark.parametrize(
    ("mean", "text"), [(0.06, "+0.0600 ± 0.0058"), (0.01, "+0.0100 ± 0.0058, none"), (-0.09, "-0.0900 ± 0.0058, worse")]
)
def test_a_gain_is_more_than_twice_its_standard_error(mean, text):
    assert results.format_gain({"mean": mean, "std": 0.01, "n": 3}) == text


def test_of_several_values_mean_and_spread_are_kept():
    assert results.summarize([0.25, 0.75]) == {"mean": 0.5, "std": pytest.approx(0.35355339), "n": 2}
    assert results.summarize([0.25]) == {"mean": 0.25, "std": 0.0, "n": 1}
    assert results.summarize([0.25, None]) is None


def test_results_are_written_with_command_commit_date_device_and_conditions(tmp_path, capsys, monkeypatch):
    path = tmp_path / "folder" / "one.json"
    words = ["--batch", "8", "--config.data.data_dir=/home/me/tfds", "--write", str(path)]
    monkeypatch.setattr(sys, "argv", [str(HERE / "cached.py"), *words])
    results.write(path, {"A title": ROWS}, columns={"name": "net", "ms": "ms"}, note="of a test")
    written = results.read(path)
    assert written["command"] == "python benchmarks/cached.py --batch 8 --config.data.data_dir=DIR"
    assert written["rows"] == [{"table": "A title", **ROWS[0]}]
    assert {"cores", "load", "jax", "python", "note"} <= written["conditions"].keys()
    printed = capsys.readouterr().out
    assert "A title:" in printed
    assert "; note of a test" in printed


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"command": ""}, "command"),
        ({"commit": None}, "commit"),
        ({"rows": []}, "rows"),
        ({"rows": [{"ms": 1}]}, "must have a name"),
        ({"rows": [{"name": "a", "ms": [1]}]}, "ms of 'a'"),
        ({"rows": [{"name": "a", "ms": {"mean": 1.0}}]}, "ms of 'a'"),
    ],
)
def test_results_of_another_form_are_refused(changed, message):
    results.check(HEAD | {"rows": ROWS})
    with pytest.raises(ValueError, match=message):
        results.check(HEAD | {"rows": ROWS} | changed)


@pytest.mark.parametrize("path", sorted(results.FOLDER.glob("*.json")), ids=lambda path: path.name)
def test_every_file_has_the_form(path):
    results.read(path)


@pytest.mark.parametrize("page", results.PAGES)
def test_the_tables_of_a_page_are_those_of_the_files(page):
    text = (ROOT / page).read_text()
    assert MARKER.search(text)
    assert results.fill(text) == text, "run python benchmarks/results.py"


@pytest.mark.parametrize("page", results.PAGES)
def test_a_table_of_measured_numbers_has_a_marker(page):
    """A row with a spread, or of a time, outside of markers was written by hand."""
    outside = re.sub(r"<!-- (results|table): .*?<!-- end -->", "", (ROOT / page).read_text(), flags=re.DOTALL)
    assert [
        line for line in outside.splitlines() if line.startswith("|") and re.search(r"\d ± \d|\d\.\d\d", line)
    ] == []


def test_every_file_is_on_a_page():
    named = {name for text in pages().values() for _, name in MARKER.findall(text)}
    assert {path.name for path in results.FOLDER.glob("*.json")} <= named
    assert {f"gpu_{name}.json" for name in gpu.SCRIPTS} <= named


def test_the_page_of_modes_has_every_table():
    tables = results.group_tables(results.read(results.FOLDER / "modes.json"))
    text = pages()["docs/modes.md"]
    assert [f"<!-- table: modes.json, {title} -->" in text for title in tables] == [True] * len(tables)
