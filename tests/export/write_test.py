"""Exports: read again elsewhere and equal, whole or not at all, the same bytes, and refused if they were altered."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from conftest import ROOT
from exported_networks import examples_of, exported_of, half_size, image_predictor, text_predictor
from jaxdistill.compress.packing import StoredIntegers
from jaxdistill.compress.quantize import Quantize
from jaxdistill.compress.views import Views
from jaxdistill.errors import UserError
from jaxdistill.export import safetensors, stablehlo
from jaxdistill.export.formats import FORMATS
from jaxdistill.export.loaded import open_export
from jaxdistill.export.reload import Report, predict
from jaxdistill.export.weights import variables_of
from jaxdistill.export.write import check_export, write_export
from jaxdistill.runtime import files


def written(folder, exported, name):
    examples = examples_of(exported.predictor)
    return write_export(folder, exported, name, examples), examples


def expected_outputs(exported, examples):
    return predict(exported.predictor, variables_of(exported.weights), examples)


def test_a_program_leaves_with_packed_integers_and_its_preprocessing(tmp_path):
    exported = exported_of(image_predictor(widths=(160, 160)), bits=4)
    lines, examples = written(tmp_path / "out", exported, "stablehlo")
    kernels = 16 * 160 + 160 * 160
    size = (tmp_path / "out" / stablehlo.FILE).stat().st_size
    assert kernels // 2 < size < kernels
    assert "read again by jax on 24 examples" in lines[1]
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["reloaded"]["equal_predictions"] == 1
    assert report["reloaded"]["largest_difference"] < 1e-5
    network = open_export(tmp_path / "out" / stablehlo.FILE)
    probabilities = network.probabilities(examples["image"])
    assert np.allclose(probabilities, expected_outputs(exported, examples), atol=1e-6)
    assert np.allclose(np.exp(network(examples["image"])), probabilities, atol=1e-6)
    assert b"jaxdistill" not in (tmp_path / "out" / stablehlo.FILE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("bits", [0, 8])
@pytest.mark.parametrize("predictor", [image_predictor(half_size()), text_predictor()], ids=["image", "text"])
def test_programs_of_all_inputs_agree_and_are_the_same_bytes(tmp_path, predictor, bits):
    exported = exported_of(predictor, bits=bits)
    for name in ("first", "second"):
        written(tmp_path / name, exported, "stablehlo")
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


@pytest.mark.parametrize("bits", [0, 4])
def test_weights_leave_and_make_the_same_network_again(tmp_path, bits):
    exported = exported_of(image_predictor(half_size(), widths=(7, 5)), bits=bits)
    _, examples = written(tmp_path / "out", exported, "safetensors")
    network = open_export(tmp_path / "out")
    assert network.class_names == ("a", "b", "c")
    assert np.allclose(network.probabilities(examples["image"]), expected_outputs(exported, examples), atol=1e-6)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model"] == "mlp"
    assert config["fields"] == {"classes": 3, "widths": [7, 5], "dropout": 0.0}
    assert config["images"]["mean"] == [0.5]
    assert config["preprocessing"]["shape"] == [2, 2, 3]
    packed = {"params/dense1/kernel", "params/dense2/kernel"} if bits else set()
    assert config["packed"].keys() == packed


def test_integers_of_training_are_those_of_the_file(tmp_path):
    exported = exported_of(image_predictor())
    values = np.random.default_rng(0).integers(-7, 8, (16, 7)).astype(np.int8)
    given = {"params/dense1/kernel": StoredIntegers(values, np.full((1, 7), 0.5, np.float32), 4)}
    predictor, variables = exported.predictor, exported.variables
    exported = exported_of(predictor, bits=4, integers=given)
    assert exported.weights["params/dense1/kernel"] is given["params/dense1/kernel"]
    assert np.array_equal(exported.weights["params/head/kernel"], variables["params"]["head"]["kernel"])
    eight = {"params/dense1/kernel": StoredIntegers(values, np.ones((1, 7), np.float32), 8)}
    exported = exported_of(predictor, bits=4, integers=eight)
    with pytest.raises(UserError, match="must be 0 or at least 8, the bits that the network was trained in, got 4"):
        written(tmp_path / "out", exported, "safetensors")


def test_fewer_bits_than_those_of_a_view_are_refused_before_there_are_weights():
    exported = exported_of(image_predictor(), bits=4)
    source = dataclasses.replace(exported.predictor.source, views=Views.of({"round": Quantize(bits=6)}))
    exported = dataclasses.replace(exported, predictor=dataclasses.replace(exported.predictor, source=source))
    with pytest.raises(UserError, match="must be 0 or at least 6, the bits that the network was trained in, got 4"):
        check_export(exported, "safetensors")


def test_another_prediction_is_no_export(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors, "verify", lambda *_: Report("numpy", 24, 0.3, 0.95))
    with pytest.raises(UserError, match=r"must predict as the network in 99\.9% of the examples, got 95\.00%"):
        written(tmp_path / "out", exported_of(image_predictor()), "safetensors")
    assert [*tmp_path.iterdir()] == []


def test_other_numbers_are_no_export(tmp_path, monkeypatch):
    write = safetensors.write_safetensors
    changed = lambda path, arrays: write(path, {name: x + x.dtype.type(1) for name, x in arrays.items()})  # noqa: E731
    monkeypatch.setattr(safetensors, "write_safetensors", changed)
    with pytest.raises(UserError, match="must have the network's numbers, got others in 'params/"):
        written(tmp_path / "out", exported_of(image_predictor()), "safetensors")
    assert [*tmp_path.iterdir()] == []


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(path, arrays):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors, "write_safetensors", full)
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError, match=r"No space left.*/out'$"):
        written(tmp_path / "out", exported_of(image_predictor()), "safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "out"
    written(folder, exported_of(image_predictor()), "safetensors")
    return folder


def test_an_altered_export_is_refused(folder):
    path = folder / safetensors.FILE
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="must be as it was exported, got another content"):
            open_export(folder)
    path.unlink()
    with pytest.raises(UserError, match="must be as it was exported, got no file"):
        open_export(folder)
    path.write_bytes(whole)
    (folder / "export.json").rename(folder / "moved")
    with pytest.raises(UserError, match=r"export\.json must describe an export"):
        open_export(folder)
    (folder / "moved").rename(folder / "export.json")
    open_export(folder)


def test_every_bit_of_a_report_counts(folder):
    path = folder / "export.json"
    whole = path.read_bytes()
    try:
        for place in range(0, len(whole), 17):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << place % 8)]) + whole[place + 1 :])
            with pytest.raises(UserError, match=r"export\.json"):
                open_export(folder)
    finally:
        path.write_bytes(whole)


REPORTS = {
    "network": ({"network": None}, r"must describe an export, got KeyError\('network'\)"),
    "format": ({"format": None}, r"must describe an export, got KeyError\('format'\)"),
    "other_format": (
        {"format": "stablehlo"},
        r"every file of the network, got none of \['model.stablehlo'\]",
    ),
    "no_format": ({"format": "stablehl"}, "format of .*export.json must be .* Did you mean 'stablehlo'"),
    "files": (
        {"files": {}},
        r"every file of the network, got none of \['config.json', 'model.safetensors'\]",
    ),
    "digest": ({"digest": "0"}, "must be as it was exported, got another content"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_is_not_whole_is_refused(folder, name):
    changes, message = REPORTS[name]
    path = folder / "export.json"
    whole = path.read_text()
    described = {key: value for key, value in (json.loads(whole) | changes).items() if value is not None}
    if name != "digest":
        described["digest"] = files.json_digest({key: x for key, x in described.items() if key != "digest"})
    path.write_text(json.dumps(described))
    try:
        with pytest.raises(UserError, match=message):
            open_export(folder)
    finally:
        path.write_text(whole)


def test_no_examples_give_no_outputs(folder):
    assert open_export(folder).probabilities(np.zeros((0, 4, 4, 1), np.uint8)).shape == (0, 3)


def test_paths_that_cannot_be_folders_have_the_names_that_were_given(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match=r"/file/x'$"):
        written(tmp_path / "file" / "x", exported_of(image_predictor()), "safetensors")
    with pytest.raises(UserError, match=r"the folder of an export must not exist, got \S*/link\."):
        written(tmp_path / "link", exported_of(image_predictor()), "safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


BAD = {
    "bits": ({"bits": 3}, "safetensors", r"export\.bits must be one of \[0, 8, 4\], got 3"),
    "format": ({}, "safetensor", "export.format must be an export_format, got 'safetensor'. Did you mean"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_settings(tmp_path, name):
    changes, form, message = BAD[name]
    with pytest.raises(UserError, match=message):
        written(tmp_path / "out", exported_of(image_predictor(), **changes), form)


def test_an_existing_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UserError, match="the folder of an export must not exist"):
        written(tmp_path / "out", exported_of(image_predictor()), "safetensors")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine"]


def test_the_guide_has_the_programs_and_the_one_with_jaxdistill_runs(folder, tmp_path):
    guide = (ROOT / "docs" / "guides" / "exporting.md").read_text()
    for form in FORMATS.values():
        assert f"```python\n{form.PROGRAM}```" in guide
    blocks = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    code = next(block for block in blocks if "network.probabilities(dict(inputs))" in block)
    np.savez(tmp_path / "inputs.npz", **examples_of(image_predictor(), 3))
    words = ["predict.py", str(folder), str(tmp_path / "inputs.npz"), str(tmp_path / "outputs.npz")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", words)
        exec(code, {})
    assert np.load(tmp_path / "outputs.npz")["outputs"].shape == (3, 3)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_programs_that_read_an_export_are_short_and_do_not_import_jaxdistill(form):
    assert "jaxdistill" not in form.PROGRAM
    assert len(form.PROGRAM.splitlines()) <= 25
    subprocess.run([sys.executable, "-c", f"compile({form.PROGRAM!r}, 'program', 'exec')"], check=True)
