"""The command `jaxdistill compare`: its tables, its page, its numbers."""

import json
import xml.etree.ElementTree as ElementTree

import pytest

from compared_runs import write_run
from jaxdistill.compare import command
from jaxdistill.errors import UserError


def test_runs_side_by_side(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts = ["a0", "a1", "b0", "b1"]
    for text, accuracy in zip(texts, (0.5, 0.75, 0.75, 0.875), strict=True):
        write_run(tmp_path / text, seed=int(text[1]), accuracy=accuracy, temperature=2.0 + 2 * (text[0] == "b"))
    assert command.main(texts) == 0
    printed = capsys.readouterr().out
    lines = [line.split() for line in printed.splitlines()]
    assert printed.startswith("2 experiments, 2 seeds of each, which differ in stages.distil.terms.kd.temperature.")
    assert ["stages.distil.terms.kd.temperature", "2.0", "4.0"] in lines
    for line in (
        "distilled  a0, a1  2  9  40  8  0.6250 ± 0.1768  0.5000 ± 0.0000",
        "distilled  b0, b1 - a0, a1  2 seeds  +0.1875 ± 0.0625  +0.0000 ± 0.0000",
        "distilled  a0, a1  distilled - alone  2 seeds  +0.1250 ± 0.1250  -0.5000 ± 0.0000",
        "distilled  b0, b1  distilled - alone  2 seeds  +0.3125 ± 0.0625  -0.5000 ± 0.0000",
    ):
        assert line.split() in lines
    assert ["a0", "0", "abcdef012", "/", "123456789+", "1", "cpu", "now"] in lines
    page = (tmp_path / "comparison" / "comparison.html").read_text()
    text = " ".join(ElementTree.fromstring(page.partition("\n")[2]).itertext())
    for part in ("Comparison of runs", "distil: loss of every run", "distil: validation accuracy of student", "Cost"):
        assert part in text
    assert {path.name for path in (tmp_path / "comparison").iterdir()} == {
        *("comparison.html", "comparison.md", "comparison.json", "pareto_bytes.svg", "pareto_flops.svg")
    }
    assert "| distilled | a0, a1 | 2 |" in (tmp_path / "comparison" / "comparison.md").read_text()
    numbers = json.loads((tmp_path / "comparison" / "comparison.json").read_text())
    assert numbers["settings"] == [{"setting": "stages.distil.terms.kd.temperature", "a0, a1": "2.0", "b0, b1": "4.0"}]
    assert {row["run"] for row in numbers["results"]} == {*texts}
    difference = next(item for item in numbers["differences"] if item["network"] == "distilled")
    assert (difference["mean"], difference["standard_error"], difference["pairs"]) == (0.1875, 0.0625, 2)


def test_a_run_and_its_repetition(tmp_path):
    comparison = command.compare([write_run(tmp_path / name) for name in "ab"])
    summary = comparison.summarize()
    assert summary == "2 runs of one config and the same seeds: their differences are of code and machine."
    tables = comparison.tables()
    assert "Configs" not in tables
    assert "+0.0000 ± 0.0000" in tables["Differences between runs"].to_text()


def test_repetitions_alone_have_no_differences(tmp_path):
    comparison = command.compare([write_run(tmp_path / f"{seed}", seed=seed) for seed in (0, 1)])
    assert comparison.summarize() == "2 repetitions of one config, which differ in their seeds alone."
    assert comparison.differences == []


@pytest.mark.parametrize("words", [["--out"], ["a", "--nosuch"], ["a", "--ou", "x"]])
def test_mistakes_in_the_words(words):
    with pytest.raises(UserError, match="See jaxdistill compare --help"):
        command.main(words)


def test_a_folder_that_cannot_be_written(tmp_path):
    texts = [write_run(tmp_path / name) for name in "ab"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        command.main([*texts, "--out", str(tmp_path / "file")])
