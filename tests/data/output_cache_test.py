"""The format of a cache: what is written is what is read, whatever happened in between."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import pytest

from jaxdistill.data.dataset import Arrays
from jaxdistill.data.output_cache import Cache, Header, content
from jaxdistill.errors import UserError

ARRAYS = {
    "values": ((3,), "float16"),
    "ids": ((3,), "uint16"),
    "log_rest": ((), "float32"),
    "tap/pooled": ((2, 2), "bfloat16"),
}


def header(**changed):
    told = dict(arrays=ARRAYS, classes=10, splits={"train": (23, 4), "test": (5, 1)}, shard=8)
    return Header(**told | dict(view={"seed": 0}, teacher={"model": "mlp"}) | changed)


def said(examples, views):
    """What is said of each (example, view): functions of both."""
    n = (np.arange(examples)[:, None] * 100 + np.arange(views)[None]).reshape(-1)
    return {
        "values": np.float32(n[:, None] + np.arange(3)[None] / 4),
        "ids": np.int32(n[:, None] + np.arange(3)[None]),
        "log_rest": np.where(n % 7 == 0, -np.inf, -n / 3).astype(np.float32),
        "tap/pooled": np.float32(n)[:, None, None] + np.zeros((1, 2, 2), np.float32),
    }


def write(cache, which=None):
    for role, number in cache.missing() if which is None else which:
        examples, views = cache.header.splits[role]
        part = cache.header.shards(role)[number]
        rows = slice(part.start * views, part.stop * views)
        cache.write(role, number, {name: x[rows] for name, x in said(examples, views).items()})


@pytest.fixture
def cache(tmp_path):
    made = Cache(tmp_path / "cache", header())
    made.begin()
    write(made)
    return made


def files(cache):
    return {str(p.relative_to(cache.folder)): p.read_bytes() for p in sorted(cache.folder.rglob("*")) if p.is_file()}


def test_it_reads_what_was_written(cache):
    again = Cache(cache.folder, Header.read(cache.folder))
    assert again.header == cache.header
    assert again.missing() == []
    index, view = np.array([22, 0, 7, 8, 7], np.int32), np.array([1, 0, 3, 6, 0], np.int32)
    taken, expected = again.take("train", index, view), said(23, 4)
    for name, (shape, dtype) in ARRAYS.items():
        whole = expected[name].astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        np.testing.assert_array_equal(taken[name], whole[index * 4 + view % 4])
        assert taken[name].shape == (5, *shape)
        assert str(taken[name].dtype) == dtype
        np.testing.assert_array_equal(again.load_all("train")[name], whole.reshape(23, 4, *shape))
    assert again.load_all("test")["values"].shape == (5, 1, 3)


def test_the_layout_is_the_documented_one(cache):
    from array_record.python import array_record_module

    shard = cache.folder / "train" / "00001.array_record"
    record = array_record_module.ArrayRecordReader(str(shard)).read_all()[6]  # example 8 + 1, view 2
    expected = np.array([902, 902.25, 902.5], "<f2").tobytes() + np.array([902, 903, 904], "<u2").tobytes()
    expected += np.array(-902 / 3, "<f4").tobytes() + np.full(4, 902, ml_dtypes.bfloat16).tobytes()
    assert record == expected
    assert cache.header.record.itemsize == len(expected)
    assert cache.header.bytes == len(expected) * (23 * 4 + 5)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no json", "gone", "half json"])
def test_damaged_shards_alone_are_written_again(cache, damage):
    before = files(cache)
    shard = cache.folder / "train" / "00001.array_record"
    if damage == "truncated":
        os.truncate(shard, shard.stat().st_size - 7)
    elif damage == "flipped":
        data = bytearray(shard.read_bytes())
        data[data.index(np.float16(902.25).tobytes())] ^= 1
        shard.write_bytes(data)
    elif damage == "gone":
        shard.unlink()
    elif damage == "half json":
        os.truncate(shard.with_suffix(".json"), 9)
    else:
        shard.with_suffix(".json").unlink()
    if damage not in ("no json", "half json"):
        with pytest.raises(UserError, match=r"00001.*damaged.*given again"):
            Cache(cache.folder, cache.header).load_all("train")
        with pytest.raises(UserError, match="damaged"):
            Cache(cache.folder, cache.header).take("train", np.array([9]), np.array([2]))
    times = {p: p.stat().st_mtime_ns for p in cache.folder.rglob("*.array_record") if p != shard}
    assert cache.missing() == [("train", 1)]
    write(cache)
    assert files(cache) == before
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_a_killed_writer_leaves_a_cache_that_resumes_to_the_same_bytes(tmp_path, cache):
    """The process is killed in the middle of its writing, not at a place of its choosing."""
    folder = tmp_path / "killed"
    code = f"""
import pathlib, sys
sys.path[:0] = {[str(pathlib.Path(__file__).parent), *sys.path]!r}
import output_cache_test as t
made = t.Cache(pathlib.Path({str(folder)!r}), t.header())
made.begin()
while True:
    t.write(made, [("train", 0), ("train", 2), ("train", 1)])
"""
    writer = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 60
    while not (folder / "train" / "00001.json").exists():
        assert time.monotonic() < end
        time.sleep(0.001)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (folder / "test").mkdir(exist_ok=True)
    (folder / "test" / "00000.part").write_bytes(b"half")
    resumed = Cache(folder, header())
    resumed.begin()
    assert ("test", 0) in resumed.missing()
    write(resumed)
    assert files(resumed) == files(cache)


def test_the_order_in_which_shards_are_written_changes_no_byte(tmp_path, cache):
    other = Cache(tmp_path / "other", header())
    other.begin()
    write(other, reversed(other.missing()))
    assert files(other) == files(cache)


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        (dict(view={"seed": 1}), ["- seed: 1", "+ seed: 0"]),
        (dict(teacher={"model": "mlp", "weights": "12"}), ["- weights: 12", "+ weights: (nothing)"]),
        (dict(splits={"train": (23, 4)}), ["- test: (nothing)", "+ test: [5, 1]"]),
        (dict(shard=9), ["- shard: 9", "+ shard: 8"]),
    ],
)
def test_another_cache_in_the_folder_is_refused(cache, changed, lines):
    with pytest.raises(UserError) as raised:
        Cache(cache.folder, header(**changed)).begin()
    assert all(line in str(raised.value) for line in lines)


def test_a_foreign_or_altered_header_is_refused(tmp_path, cache):
    with pytest.raises(UserError, match="no cache in"):
        Header.read(tmp_path)
    path = cache.folder / "cache.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 2'))
    with pytest.raises(UserError, match="altered"):
        Header.read(cache.folder)
    path.write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        Header.read(cache.folder)


def test_values_outside_the_range_of_a_dtype_are_refused(cache):
    arrays = {name: x[:32] for name, x in said(8, 4).items()}
    arrays["values"][9, 1] = 1e6
    with pytest.raises(UserError, match="values of example 2 of the train split is not finite as float16"):
        cache.write("train", 0, arrays)
    arrays["values"][9, 1] = -np.inf
    with pytest.raises(UserError, match="values of example 2"):
        cache.write("train", 0, arrays)
    arrays["values"][9, 1] = 0
    arrays["log_rest"][0] = np.nan
    with pytest.raises(UserError, match="log_rest of example 0"):
        cache.write("train", 0, arrays)


def test_the_digest_of_a_split_depends_on_its_images():
    image = np.zeros((300, 8, 8, 1), np.uint8)
    one = content(Arrays(image, np.zeros(300, np.int32)))
    assert one == content(Arrays(image.copy(), np.ones(300, np.int32)))
    image[17, 3, 3] = 1
    assert one != content(Arrays(image, np.zeros(300, np.int32)))


def test_an_unknown_split_is_refused(cache):
    with pytest.raises(UserError, match=r"split.*must be an existing name, got 'validation'.*\['test', 'train'\]"):
        cache.take("validation", np.array([0]), np.array([0]))


def test_arrays_that_all_records_share(tmp_path):
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    shared = {"kernel": ((2, 3), "bfloat16"), "bias": ((3,), "float32")}
    made = Cache(tmp_path, header(shared=shared))
    made.begin()
    assert not made.has_shared
    with pytest.raises(UserError, match="shared.bin of a cache is damaged"):
        made.read_shared()
    made.write_shared({"kernel": kernel, "bias": kernel[0]})
    read = Cache(tmp_path, Header.read(tmp_path)).read_shared()
    assert read["kernel"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(np.float32(read["kernel"]), kernel)
    np.testing.assert_array_equal(read["bias"], kernel[0])
    assert made.header.bytes - header().bytes == 6 * 2 + 3 * 4
    (tmp_path / "shared.bin").write_bytes(b"x" * 24)
    assert not made.has_shared
