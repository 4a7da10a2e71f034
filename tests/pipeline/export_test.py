"""Networks of a finished run: found by their names, loaded on raw inputs, exported without training."""

import json
import os
import pathlib
import re
import shutil
import signal

import numpy as np
import pytest

import jaxdistill
from conftest import ROOT
from jaxdistill.errors import UserError
from jaxdistill.export import safetensors
from jaxdistill.pipeline import export
from jaxdistill.pipeline.find_network import find_network
from runs import launched, results

CONFIG = """
from ml_collections import ConfigDict

def get_config(mode=""):
    c = ConfigDict()
    c.batch, c.steps = 64, 30
    c.data = dict(name="digits")
    c.networks = dict(student=dict(source="trained", model="mlp", widths=(8,)), slow=dict(source="ema", of="student"))
    c.terms = dict(task=dict(method="cross_entropy"))
    c.learning_rate = dict(value=0.05)
    c.evaluate = dict(metrics=())
    done = dict(like="student", source="frozen", weights="stage:distil#student")
    views = dict(sparse=dict(view="sparse", sparsity=0.5), round=dict(view="quantize", bits=4, activations=8))
    c.stages = dict(
        distil=dict(),
        evaluate=dict(
            kind="evaluate",
            networks=dict(distilled=done, small=dict(done, compress=views)),
            evaluate=dict(split="test", networks=("distilled",), metrics=("accuracy",), saliency=False),
        ),
        export=dict(kind="export", networks=dict(distilled=done), export=dict(format="safetensors", bits=8)),
    )
    return c
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    (folder / "config.py").write_text(CONFIG)
    assert launched(folder / "run", config=str(folder / "config.py")) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def test_split():
    return jaxdistill.load_dataset("digits").split("test").take(np.arange(360))


def test_a_network_is_called_on_raw_images(run, test_split):
    network = jaxdistill.load(run, "distilled")
    logits = network(test_split["image"])
    assert (logits.shape, logits.dtype) == ((360, 10), np.float32)
    accuracy = np.mean(logits.argmax(-1) == test_split["label"])
    assert accuracy > 0.3
    assert accuracy == pytest.approx(next(row["accuracy"] for row in results(run)), abs=1e-6)
    assert np.allclose(network.probabilities(test_split["image"]).sum(-1), 1, atol=1e-5)
    one = network(test_split["image"][:1])
    assert np.allclose(one, logits[:1], atol=1e-5)


def test_the_first_screen_of_the_readme_loads_a_network(run, test_split):
    readme = (ROOT / "README.md").read_text()
    code = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "jaxdistill.load(" in block)
    names = {"images": test_split["image"][:4]}
    exec(code.replace("runs/digits", str(run)), names)
    assert names["logits"].shape == (4, 10)
    assert readme.index(code) < 2000


def test_stages_and_checkpoints_are_loaded(run, test_split):
    images = test_split["image"][:8]
    expected = jaxdistill.load(str(run), "distilled")(images)
    for place, name in ((run / "distil", "student"), (run / "evaluate", "distilled"), (run, "distil#student")):
        assert np.array_equal(jaxdistill.load(place, name)(images), expected), place
    average = jaxdistill.load(run / "distil" / "checkpoints" / "30", "slow")(images)
    assert average.shape == expected.shape
    assert not np.allclose(average, expected)


def test_the_stage_and_the_command_write_the_same_bytes(run, tmp_path, test_split, capsys):
    words = ["--workdir", str(run), "--network", "distilled", "--format", "safetensors", "--bits", "8"]
    assert export.main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "equal predictions 100.00%" in capsys.readouterr().out
    for path in (run / "export" / "distilled").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["reloaded"]["examples"] == 360
    assert report["reloaded"]["split"] == "test"
    images = test_split["image"]
    loaded, trained = jaxdistill.load(tmp_path / "out")(images), jaxdistill.load(run, "distilled")(images)
    assert np.mean(loaded.argmax(-1) == trained.argmax(-1)) == report["equal_predictions_in_float32"] > 0.9


def test_a_network_with_views_leaves_in_its_own_integers(run, tmp_path, test_split):
    words = ["--workdir", str(run), "--network", "small", "--format", "safetensors", "--bits", "4"]
    assert export.main([*words, "--out", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["packed"] == {"params/dense1/kernel": {"bits": 4, "shape": [64, 8]}}
    assert config["compress"]["round"]["activations"] == 8
    images = test_split["image"]
    expected = jaxdistill.load(run, "small")(images)
    assert np.allclose(jaxdistill.load(tmp_path / "out")(images), expected, atol=1e-5)
    assert not np.allclose(jaxdistill.load(run, "distilled")(images), expected, atol=1e-2)


BAD = {
    "format": ({"format": "stablehl"}, "--format must be an export_format, got 'stablehl'. Did you mean 'stablehlo'?"),
    "network": ({"network": "distiled"}, "the network must be a network of the run, got 'distiled'. Did you mean"),
    "stage": ({"network": "distill#student"}, "the stage must be a stage of the run, got 'distill'. Did you mean"),
    "of_stage": ({"network": "distil#distilled"}, "the network of stage 'distil' must be an existing name"),
    "lane": ({"network": "distilled@0"}, "was not trained in lanes"),
    "bits": ({"bits": "5"}, "export.bits must be one of [0, 8, 4], got 5"),
    "out": ({"out": "."}, "--out must be a path that does not exist, got '.'"),
    "run": ({"workdir": "nowhere"}, "the workdir must be the folder of a run, got 'nowhere'"),
    "huggingface": ({"format": "huggingface"}, "Take the format 'safetensors', 'stablehlo' or 'onnx', or train"),
    "file": ({"out": pathlib.Path(__file__) / "x"}, f"--out must be in a folder, got '{__file__}/x' in the file"),
    "flag": ({"number": "3"}, "unrecognized arguments: --number 3"),
}


@pytest.mark.parametrize("name", BAD)
def test_mistakes_are_one_message(run, tmp_path, capsys, name):
    changes, message = BAD[name]
    flags = {"workdir": run, "network": "distilled", "format": "safetensors", "out": tmp_path / "out"} | changes
    assert export.main([word for key, value in flags.items() for word in (f"--{key}", str(value))]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
    assert [*tmp_path.iterdir()] == []


def test_a_signal_leaves_no_folder(run, tmp_path, monkeypatch, capsys):
    write = safetensors.write_safetensors
    monkeypatch.setattr(safetensors, "write_safetensors", lambda *x: (write(*x), os.kill(os.getpid(), signal.SIGTERM)))
    words = ["--workdir", str(run), "--network", "distilled", "--format", "safetensors", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as left:
        export.main(words)
    assert left.value.code == 128 + signal.SIGTERM
    assert "nothing was exported" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_an_export_without_its_report_is_one_message(run, tmp_path):
    shutil.copytree(run / "export" / "distilled", tmp_path / "out")
    (tmp_path / "out" / "export.json").unlink()
    for name in ("", "distilled"):
        with pytest.raises(UserError, match=r"without export.json or a config.json of a run. Name one"):
            jaxdistill.load(tmp_path / "out", name)
    with pytest.raises(UserError, match="the workdir must be the folder of a run, got"):
        find_network(tmp_path / "out", "distilled")


def test_a_run_that_has_not_finished(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "distil" / "done.json").unlink()
    with pytest.raises(UserError, match="stage 'distil' of .* must have finished for its network 'distilled'"):
        jaxdistill.load(tmp_path / "run", "distilled")


def test_paths_and_names_that_load_nothing(run, tmp_path):
    with pytest.raises(UserError, match="must be a run, a stage, a checkpoint or an export"):
        jaxdistill.load(tmp_path)
    with pytest.raises(UserError, match="must be the name of a network of the run"):
        jaxdistill.load(run)
    with pytest.raises(
        UserError, match=r"must have saved one network, got \['slow', 'student'\]|\['student', 'slow'\]"
    ):
        jaxdistill.load(run / "distil")
    with pytest.raises(UserError, match="network must be '' for an export"):
        jaxdistill.load(run / "export" / "distilled", "distilled")
