"""The column that chooses a network: of texts, images and tables, and its mistakes."""

import json

import numpy as np
import pytest

from jaxdistill.config import load
from jaxdistill.data import build, datasets
from jaxdistill.data.dataset import AnswerSettings
from jaxdistill.errors import UserError
from tokenizer_files import write_wordpiece

ROWS = [{"q": f"{n}+1=", "a": str(n + 1), "kind": ("even", "odd")[n % 2]} for n in range(40)]


@pytest.fixture
def sums(tmp_path):
    (tmp_path / "sums.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return str(tmp_path / "sums.jsonl")


def open_sums(path, **settings):
    answers = AnswerSettings(answer="a", end="\n")
    return datasets.load("answers", path=path, text="q", answers=answers, length=12, **settings)


def test_texts_have_the_number_of_their_value(sums, tmp_path):
    dataset = open_sums(sums, route="kind")
    assert dataset.routes == ("even", "odd")
    batch = dataset.split("train").take(np.arange(5))
    assert batch["route"].tolist() == [0, 1, 0, 1, 0]
    assert batch["route"].dtype == np.int32
    assert dataset.split("test").take(np.arange(2))["route"].tolist() == [0, 1]
    assert dataset.split("train").token_counts is not None
    folder = write_wordpiece(tmp_path / "words")
    rows = [{"t": "good film", "label": "np"[n % 2], "kind": n // 20} for n in range(40)]
    (tmp_path / "texts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    texts = datasets.load(
        "text_rows",
        path=str(tmp_path / "texts.jsonl"),
        text="t",
        label="label",
        tokenizer=folder,
        length=6,
        route="kind",
    )
    assert (texts.routes, texts.class_names) == (("0", "1"), ("n", "p"))
    assert texts.split("train").take(np.array([0, 19, 20]))["route"].tolist() == [0, 0, 1]


def test_tables_and_images(tmp_path):
    from PIL import Image

    (tmp_path / "t.csv").write_text("x,y,site\n" + "".join(f"{n},{n % 2},{n % 3}\n" for n in range(30)))
    table = datasets.load("table", path=str(tmp_path / "t.csv"), label="y", columns=("x",), route="site")
    batch = table.split("train").take(np.arange(18))
    assert table.routes == ("0", "1", "2")
    assert batch["features"].shape == (18, 1)
    assert sorted(batch["route"])[::6] == [0, 1, 2]
    with pytest.raises(UserError, match="data.route must be a column, got 'sit'.*'site'"):
        datasets.load("table", path=str(tmp_path / "t.csv"), label="y", route="sit")
    for n in range(20):
        Image.fromarray(np.full((4, 4, 3), 12 * n, np.uint8)).save(tmp_path / f"{n}.png")
    lines = "".join(f"{n}.png,{'ab'[n % 2]},{'xy'[n // 10]}\n" for n in range(20))
    (tmp_path / "i.csv").write_text("file,label,source\n" + lines)
    data = load.stages(
        {
            "data": {"name": "images", "path": str(tmp_path / "i.csv"), "route": "source"},
            "networks": {"student": {"model": "mlp"}},
            "stages": {"train": {}},
        }
    )["train"].data
    images = build.open_dataset(data)
    batch = images.split("train").take(np.arange(16))
    assert images.routes == ("x", "y")
    assert (batch["route"] == (batch["image"][:, 0, 0, 0] >= 120)).all()


def test_mistakes(sums, tmp_path):
    with pytest.raises(UserError, match="data.route must be a column of .*, got 'kin'|'kind'"):
        open_sums(sums, route="kin")
    with pytest.raises(UserError, match=r"packing must be False for texts with \['route'\]"):
        open_sums(sums, route="kind", packing=True)
    (tmp_path / "b.jsonl").write_text("".join(json.dumps({**row, "kind": None}) + "\n" for row in ROWS))
    with pytest.raises(
        UserError, match="row 1 of .*b.jsonl must have a string or a whole number in the column data.route"
    ):
        open_sums(str(tmp_path / "b.jsonl"), route="kind")
    settings = {"data": {"name": "digits", "route": "kind"}, "networks": {"s": {"model": "mlp"}}, "stages": {"t": {}}}
    with pytest.raises(UserError, match="data.route must be left out for 'digits'"):
        build.open_dataset(load.stages(settings)["t"].data)


def image_arrays(**changed):
    arrays = {}
    for role, count in (("train", 6), ("test", 3)):
        arrays[f"{role}_image"] = np.arange(16 * count, dtype=np.uint8).reshape(count, 4, 4)
        arrays[f"{role}_label"] = np.arange(count) % 2
        arrays[f"{role}_source"] = np.array([f"s{n % 3}" for n in range(count)])
    return {name: x for name, x in (arrays | changed).items() if x is not None}


def write(path, arrays):
    np.savez(path, **arrays)
    return str(path)


def test_arrays_of_images(tmp_path):
    path = write(tmp_path / "i.npz", image_arrays())
    section = {"name": "npz", "path": path, "route": "source"}
    settings = {"data": section, "networks": {"student": {"model": "mlp"}}, "stages": {"train": {}}}
    dataset = build.open_dataset(load.stages(settings)["train"].data)
    batch = dataset.split("train").take(np.array([5, 0]))
    assert dataset.routes == ("s0", "s1", "s2")
    assert (batch["route"].tolist(), batch["label"].tolist()) == ([2, 0], [1, 0])
    small = datasets.load("npz", path=path, size=2, route="source").split("test").take(np.arange(3))
    assert (small["image"].shape, small["route"].tolist()) == ((3, 2, 2, 1), [0, 1, 2])
    bare = write(tmp_path / "bare.npz", image_arrays(train_source=None, test_source=None))
    by_label = datasets.load("npz", path=bare, route="label").split("test").take(np.arange(3))
    assert by_label["route"].tolist() == by_label["label"].tolist() == [0, 1, 0]
    (tmp_path / "folder").mkdir()
    for name, array in image_arrays(train_source=np.arange(6) < 3, test_source=np.ones(3, bool)).items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)
    mapped = datasets.load("npz", path=str(tmp_path / "folder"), route="source")
    assert mapped.routes == ("False", "True")
    assert mapped.split("train").take(np.arange(2, 4))["route"].tolist() == [1, 0]


def test_arrays_of_texts_and_tables(tmp_path):
    tokens = {"train_tokens": np.ones((4, 3), int), "train_kind": np.array([7, 8, 7, 10])}
    texts = datasets.load("npz", path=write(tmp_path / "t.npz", tokens), route="kind")
    assert texts.routes == ("10", "7", "8")
    assert texts.split("train").take(np.arange(4))["route"].tolist() == [1, 2, 1, 0]
    features = {
        "train_features": np.ones((3, 2)),
        "train_label": np.arange(3) % 2,
        "train_kind": np.array(["a", "b", "a"]),
    }
    table = datasets.load("npz", path=write(tmp_path / "f.npz", features), route="kind")
    assert table.split("train").take(np.arange(3))["route"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("changed", "route", "message"),
    [
        ({}, "sourc", "data.route must be NAME of an array train_NAME of .*, got 'sourc'.*'source'"),
        ({"test_source": None}, "source", "data.route must be NAME of an array test_NAME of .*got 'source'"),
        ({"train_source": np.arange(5)}, "source", r"'train_source' must have shape \[6\], .* got \[5\]"),
        ({"train_source": np.ones(6)}, "source", "example 0 of 'train_source' of .* must have a string or a whole"),
        ({"test_source": np.array(["a", "", "b"])}, "source", "example 1 of 'test_source' of .*got .*''"),
        ({}, "", "got 'test_source'.*or name it in data.route|got 'train_source'.*or name it in data.route"),
    ],
)
def test_mistakes_of_arrays(tmp_path, changed, route, message):
    with pytest.raises(UserError, match=message):
        datasets.load("npz", path=write(tmp_path / "i.npz", image_arrays(**changed)), route=route)
