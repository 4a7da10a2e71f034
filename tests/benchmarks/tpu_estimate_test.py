"""The steps that are estimated for TPUs, without their compiler."""

import importlib
import json
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
tpu_estimate = importlib.import_module("tpu_estimate")
results = importlib.import_module("results")


def row(name, milliseconds, commit):
    title, topology = (tpu_estimate.STEPS[name][key] for key in ("title", "topology"))
    facts = {"name": name, "title": title, "topology": topology, "batch": 1, "commit": commit, "libtpu": "0"}
    share = 0.5 if milliseconds else None
    return facts | {"milliseconds": milliseconds, "utilisation": share, "bytes": 1, "collective_bytes": 1}


@pytest.mark.parametrize(("name", "batch"), [("bert", 128 * 16), ("resnet32x4", 256 * 4), ("llama_7b", 4 * 64)])
def test_a_step_has_the_examples_of_all_chips(name, batch):
    assert tpu_estimate.get_config(name).batch == batch


def test_a_run_of_one_row_keeps_the_others_with_their_commits(tmp_path, monkeypatch):
    path = tmp_path / "tpu.json"
    measured = {"bert": row("bert", 60.0, "aaaaaaa"), "vit": row("vit", 42.0, "bbbbbbb")}
    monkeypatch.setattr(tpu_estimate, "measure_alone", lambda name, programs: measured[name])
    for words in (["--rows", "bert"], ["--rows", "vit"]):
        monkeypatch.setattr(sys, "argv", [str(tpu_estimate.HERE), *words, "--write", str(path)])
        tpu_estimate.main()
    written = json.loads(path.read_text())
    assert written["command"] == "python benchmarks/tpu_estimate.py --rows vit"
    assert [(x["name"], x["commit"]) for x in written["rows"]] == [("vit", "bbbbbbb"), ("bert", "aaaaaaa")]
    assert results.read(path)["columns"] == tpu_estimate.COLUMNS


def test_rows_of_another_run_are_added_without_a_measurement(tmp_path, monkeypatch):
    files = [tmp_path / "tpu.json", tmp_path / "other.json"]
    tpu_estimate.write(files[0], {name: row(name, 60.0, "aaaaaaa") for name in ("bert", "vit")})
    tpu_estimate.write(files[1], {"vit": row("vit", 42.0, "bbbbbbb")})
    monkeypatch.setattr(tpu_estimate, "measure_alone", lambda name, programs: pytest.fail("measured"))
    words = [str(tpu_estimate.HERE), "--add", str(files[1]), "--write", str(files[0])]
    monkeypatch.setattr(sys, "argv", words)
    tpu_estimate.main()
    written = {x["name"]: (x["commit"], x["milliseconds"]) for x in results.read(files[0])["rows"]}
    assert written == {"vit": ("bbbbbbb", 42.0), "bert": ("aaaaaaa", 60.0)}


def test_the_earlier_fraction_of_the_peak_is_by_the_same_flops():
    added = tpu_estimate.add_earlier(row("bert", 60.0, "a"))
    assert added["earlier_utilisation"] * added["earlier_milliseconds"] == pytest.approx(0.5 * 60.0)
    assert tpu_estimate.add_earlier(row("llama_1b", 60.0, "a"))["earlier_utilisation"] is None
    assert tpu_estimate.add_earlier(row("bert", None, "a"))["earlier_utilisation"] is None
