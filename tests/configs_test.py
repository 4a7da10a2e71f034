"""Every config that ships builds, says what it must, and runs end to end in its smallest form."""

import ast
import importlib
import json
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from jaxdistill import core, launch
from jaxdistill.config import load as configs
from jaxdistill.config import registry
from jaxdistill.pipeline import run
from pretrained_folders import bert_tensors, write_bert
from tokenizer_files import write_wordpiece

ROOT = pathlib.Path(__file__).parents[1]
pairs = importlib.import_module("jaxdistill.configs.cifar100.pairs")
FILES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").glob("*/*.py"))

SHAPES = {"mnist": (28, 28, 1, 10), "cifar10": (32, 32, 3, 10), "cifar100": (32, 32, 3, 100)}


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def stand_in(folder, file):
    """Flags that put random images, texts and weights in the place of what must be prepared first."""
    name = configs.read(file)["data"].get("name")
    if name == "tiny_shakespeare":
        return ["--config.data.name=arithmetic"]
    if configs.read(file)["data"].get("transforms") and name == "ag_news_subset":
        path, words = folder / "news.csv", ("war", "goal", "bank", "chip")
        lines = [f"{words[row % 4]},the {words[row % 4]} of {row},{'abcd'[row % 4]}" for row in range(200)]
        path.write_text("\n".join(["title,description,label", *lines]))
        return ["--config.data.name=table", f"--config.data.path={path}"]
    if name in ("ag_news_subset", "sst2"):
        return texts_stand_in(folder, configs.read(file)["networks"])
    if name in ("camvid", "bccd"):
        data = dict(name="shapes", data_dir="", size=32, width=0, class_names=(), void=(255,))
        parts = [f"--config.data.splits.{role}=" for role in ("train", "validation", "test")]
        return [*(f"--config.data.{key}={value}" for key, value in data.items()), *parts]
    if name not in SHAPES:
        return []
    *shape, classes = SHAPES[name]
    rng = np.random.default_rng(0)
    arrays = {}
    for role, rows in (("train", 128), ("validation", 64), ("test", 64)):
        arrays[f"{role}_image"] = rng.integers(0, 256, (rows, *shape), np.uint8)
        arrays[f"{role}_label"] = np.arange(rows) % classes
    path = folder / "random.npz"
    np.savez(path, **arrays)
    splits = [f"--config.data.splits.{role}=" for role in ("train", "validation", "test")]
    few = ["--config.data.subset.count=100"] if configs.read(file)["data"].get("subset", {}).get("count") else []
    return ["--config.data.name=npz", f"--config.data.path={path}", *splits, *few]


def smoke_stand_in(folder, file):
    """Flags of `stand_in` for the smallest form of a config, which needs none if its data come with the package."""
    name = configs.read(f"{file}:smoke")["data"].get("name")
    return [] if name in ("headlines", "digits", "shapes", "sums") else stand_in(folder, file)


def texts_stand_in(folder, networks):
    """Flags for texts of a file, with a small tokenizer, and for a teacher of as many layers that is narrow."""
    rows = [{"title": "good film", "description": "the bad", "sentence": "a film", "label": i % 2} for i in range(128)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    bert = write_bert(folder / "bert", bert_tensors(layers=6), num_hidden_layers=6)
    write_wordpiece(bert)
    pretrained = [name for name, entry in networks.items() if entry.get("weights", "").startswith("hf:")]
    weights = [f"--config.networks.{name}.weights=hf:{bert}" for name in pretrained]
    weights += ["--config.networks.narrow.heads=2"] if "narrow" in networks else []  # those of the teacher
    data = ["--config.data.name=text_rows", f"--config.data.path={folder / 'rows.jsonl'}", "--config.data.label=label"]
    data += ["--config.data.length=8", "--config.data.buckets=(4, 8)", "--config.data.text=sentence"]
    splits = {"train": "[:25%]", "validation": "[25%:50%]", "test": "[50%:75%]"}
    parts = [f"--config.data.splits.{role}={part}" for role, part in splits.items()]
    return [*weights, *data, *parts, f"--config.data.tokenizer=hf:{bert}"]


@pytest.mark.parametrize("file", FILES)
def test_docstring(file):
    text = ast.get_docstring(ast.parse((ROOT / file).read_text()))
    assert f"python -m jaxdistill.launch --config {file} --workdir" in text
    assert f"{file}:smoke" in text
    assert re.search(r"Measured: \S", text)


SLOW_TO_BUILD = (
    "sst2",
    "quantized_methods",
    "news/compress",
    "news/table",
    "news/minilm",
    "news/patient",
    "news/tiny",
    "cifar100/kd",
    "camvid",
    "bccd",
    "detect",
    "sums",
    "digits/students",
    "shakespeare/gkd",
    "shakespeare/opd",
    "shakespeare/seqkd",
    "shakespeare/table",
)
"""Parts of names. Dense networks are built in slow tests, but for one. The sets of texts, and the methods of AG News,
differ in a line; its table has the stages of four other files, `pairs.py` and those of Shakespeare read `kd.py`, and
the smoke test builds all stages of the others."""


def marked_slow(file):
    return pytest.param(file, marks=[pytest.mark.slow] if any(name in file for name in SLOW_TO_BUILD) else [])


@pytest.mark.parametrize("file", [marked_slow(file) for file in FILES])
def test_builds(file, tmp_path):
    config, _ = launch.parse(["launch", "--config", file, *stand_in(tmp_path, file)])
    stages = run.prepare(config, tmp_path)
    assert any(stage.settings.kind == "evaluate" for stage in stages.values())


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
def test_smoke(file, tmp_path):
    flags = [*smoke_stand_in(tmp_path, file), "--config.mesh.data=-1"]
    assert runs.launched(tmp_path / "run", *flags, config=f"{file}:smoke") == 0
    rows = runs.results(tmp_path / "run")
    assert len(rows) >= 3
    assert all(np.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))


PARAMETERS = {
    "wrn40_2": 2_255_156,
    "wrn16_2": 703_284,
    "wrn40_1": 569_780,
    "resnet56": 861_620,
    "resnet110": 1_736_564,
    "resnet20": 278_324,
    "resnet32": 472_756,
    "resnet32x4": 7_433_860,
    "resnet8x4": 1_233_540,
    "ResNet50": 23_705_252,
    "vgg13": 9_462_180,
    "vgg8": 3_965_028,
    "MobileNetV2": 812_836,
    "ShuffleNetV1": 949_258,
    "ShuffleNetV2": 1_355_528,
}
"""Counted in RepDistiller's networks of 100 classes."""

PAIRS = [mode for mode in pairs.MODES if "-" in mode and not mode.endswith("smoke")]


def test_the_pairs_of_the_benchmark_are_thirteen_and_differ_in_networks_and_rate():
    assert len(PAIRS) == 13
    assert {name for pair in PAIRS for name in pair.split("-")} == pairs.NETWORKS.keys() == PARAMETERS.keys()
    config = configs.load("configs/cifar100/pairs.py:ResNet50-MobileNetV2")
    assert [config[stage].learning_rate.start for stage in ("teacher", "alone", "distil")] == [0.05, 0.01, 0.01]
    networks = config["distil"].networks
    assert [networks[name].options["model"] for name in ("teacher", "student")] == ["resnet", "mobilenet_v2"]


@pytest.mark.slow  # the tests of each model count the same networks
@pytest.mark.parametrize("name", pairs.NETWORKS)
def test_networks_of_pairs_have_the_parameters_of_the_benchmark(name):
    fields = dict(pairs.NETWORKS[name])
    model = registry.find("model", fields.pop("model"))(100, **fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert core.count(shapes["params"]) == PARAMETERS[name]


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_every_pair_runs(pair, tmp_path):
    file = "configs/cifar100/pairs.py"
    assert runs.launched(tmp_path / "run", "--config.mesh.data=-1", config=f"{file}:{pair}-smoke") == 0
    rows = {row["network"]: row for row in runs.results(tmp_path / "run")}
    assert rows.keys() == {"teacher", "alone", "distilled"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_smoke_on_the_real_data(name, tmp_path, tfds_dir):
    flags = [f"--config.data.data_dir={tfds_dir}"]
    assert runs.launched(tmp_path / "run", *flags, config=f"configs/{name}/kd.py:smoke") == 0


@pytest.mark.slow
def test_a_text_of_tfds(tmp_path, tfds_dir):
    flags = [f"--config.data.data_dir={tfds_dir}", "--config.data.name=tiny_shakespeare"]
    assert runs.launched(tmp_path / "run", *flags, config="configs/tiny_shakespeare/kd.py:smoke") == 0


def modes():
    path = ROOT / "configs/digits/modes.py"
    names = [node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return names[names.index("kd") : names.index("get_config")]


@pytest.mark.slow
@pytest.mark.parametrize("mode", [name for name in modes() if name not in ("peers", "mnist")])
def test_every_mode_runs(mode, tmp_path):
    flags = ["--config.mesh.data=-1"]
    assert runs.launched(tmp_path / "run", *flags, config=f"configs/digits/modes.py:{mode}-smoke") == 0
    rows = {row["network"]: row for row in runs.results(tmp_path / "run")}
    assert {"teacher", "alone"} < rows.keys()
    assert all(np.isfinite(value) for row in rows.values() for value in row.values() if isinstance(value, float))


@pytest.mark.slow
def test_datasets_teach_across(tmp_path, tfds_dir):
    flag = f"--config.data.data_dir={tfds_dir}"
    assert runs.launched(tmp_path / "cross", flag, config="configs/mnist/cross.py:smoke") == 0
    flag = f"--config.stages.mnist.data.mix.mnist.data_dir={tfds_dir}"
    assert runs.launched(tmp_path / "mnist", flag, config="configs/digits/modes.py:mnist-smoke") == 0


def test_the_tables_of_modes_have_every_network():
    """A mode without a row would be measured and then left out."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    tables = importlib.import_module("mode_tables").TABLES
    networks = {name for table in tables.values() for name in table if not name.startswith("cross_")}
    stages = configs.read("configs/digits/modes.py:all")["stages"]
    assert networks - {"mnist"} == set(stages["evaluate"]["evaluate"]["networks"])
    page = (ROOT / "docs" / "modes.md").read_text()
    sections = re.findall(r"^## (.+)\n\n(.+(?:\n.+)*)\n\n<!-- table: modes.json, (.+) -->$", page, re.MULTILINE)
    assert [title for title, _, _ in sections] == [table for _, _, table in sections] == list(tables)
    assert all(text.endswith(".") for _, text, _ in sections)  # a conclusion from the numbers
