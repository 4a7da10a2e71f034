"""Cached teachers, end to end: a student cannot tell them from live ones."""

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import jaxdistill
import runs
from cached_runs import CACHED, TOP, prepared
from jaxdistill.build import caches, weights
from jaxdistill.config import load
from jaxdistill.data import loader
from jaxdistill.data.output_cache import Cache, Header
from jaxdistill.errors import UserError
from jaxdistill.pipeline import plan
from jaxdistill.pipeline import run as pipeline
from jaxdistill.stages import cache, start_weights, training_plan


def ran(workdir):
    """Runs the pipeline; returns what it said."""
    said = []
    pipeline.run(load.load(CACHED), workdir, said.append)
    return said


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cached") / "run"
    ran(folder)
    return folder


@pytest.fixture(scope="module")
def stages(run):
    return pipeline.prepare(load.load(CACHED), run)


def params(run, stage):
    return {name: x for name, x in runs.weights(run, stage, 20).items() if name.startswith("params.")}


def content(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.array_record"))}


def test_training_by_a_cache_is_training_by_the_live_teacher(run):
    """In float32 to a few units in the last place, in float16 to its rounding: 2^-11 of logits, of which weights move
    by the rate."""
    live, read, halved = (params(run, stage) for stage in ("live", "read", "halved"))
    for name, expected in live.items():
        np.testing.assert_allclose(read[name], expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(halved[name], expected, rtol=0, atol=20 * 0.05 * 2**-11)
    assert any((halved[name] != live[name]).any() for name in live)
    pairs = [[line for line in runs.lines(run) if line["stage"] == stage] for stage in ("live", "read")]
    for ours, theirs in zip(*pairs, strict=True):
        drop = ("stage", "split", "time")
        ours, theirs = ({key: x for key, x in line.items() if key not in drop} for line in (ours, theirs))
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.slow
def test_cached_outputs_belong_to_the_images_of_the_student(run, stages):
    """Of every row of batches that span two passes, and both views: also where they are streamed."""
    live, stage = stages["live"], stages["read"]
    known = start_weights.read(live.runs, run)
    source, augment = live.networks["teacher"], live.data.augment
    teacher = jax.jit(lambda known, batch: source(known["teacher"], augment(batch), {}, None)[0])
    more = {"seed": 0, "batch": 120, "classes": 10, "shard": stage.data.process, "cycle": stage.data.cycle}
    resident = stage.data.loader()
    streamed = loader.Streamed(stage.data.train, outputs=stage.data.cached_outputs("train"), **more)
    seen = set()
    for step in (8, 17):  # which span the first pass and the second, and this and the third: its view is 0 again
        one, other = (next(made.step_inputs(step, step + 1)) for made in (resident, streamed))
        one, other = resident.make_batch(resident.resident, one), streamed.make_batch({}, other)
        assert one.keys() == other.keys()
        for name, x in one.items():
            np.testing.assert_array_equal(np.asarray(x), np.asarray(other[name]))
        said, _ = stage.networks["teacher"]({}, one, {}, None)
        expected = teacher(known, {name: x for name, x in one.items() if not name.startswith("cached/")})
        np.testing.assert_allclose(said.logits, expected.logits, rtol=1e-5, atol=1e-5)
        seen |= set(np.asarray(one["view"]).tolist())
    assert seen == {0, 1}


def test_evaluation_equals_that_of_the_live_teacher(run):
    rows = {row["network"]: row for row in runs.results(run)}
    assert rows["cached"]["accuracy"] == rows["teacher"]["accuracy"] == rows["both"]["accuracy"]
    assert rows["teacher"]["agreement"] == rows["both"]["agreement"] == 1.0
    assert rows["student"]["agreement"] < 1.0
    assert not {"parameters", "bytes", "flops"} & rows["cached"].keys()  # what made its outputs is not here
    assert rows["teacher"]["bytes"] > 0
    found = json.loads((run / "evaluation.json").read_text())
    assert found["reference"] == "cached"


@pytest.mark.slow
def test_a_stage_that_was_cut_off_goes_on_to_the_same_bits(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "read" / "done.json").unlink()
    shutil.rmtree(copy / "read" / "checkpoints" / "20")
    assert any("resumes at step 10" in line for line in ran(copy))
    for name, x in params(copy, "read").items():
        np.testing.assert_array_equal(x, params(run, "read")[name])


@pytest.mark.parametrize("damage", ["truncated", "altered", "cut off"])
def test_a_cache_is_mended_and_resumed_to_the_same_bytes(run, tmp_path, damage):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    before, shard = content(copy / "half"), copy / "half" / "train" / "00001.array_record"
    if damage == "truncated":
        os.truncate(shard, 70_000)
    elif damage == "altered":
        data = bytearray(shard.read_bytes())
        data[data.index(data[-40_000:-39_000].strip(b"\0") or b"\x7f")] ^= 4
        shard.write_bytes(data)
    else:  # after the first two shards
        (copy / "half" / "done.json").unlink()
        for path in [*(copy / "half" / "test").iterdir(), *(copy / "half" / "validation").iterdir(), shard]:
            path.unlink()
    said = ran(copy)
    there = 2 if damage == "cut off" else 4
    assert f"stage half: {there} of 5 shards exist" in said
    assert "stage cache: done before" in said
    assert content(copy / "half") == before


def test_taps_and_facts_are_kept(run):
    done = json.loads((run / "half" / "done.json").read_text())
    cache = Cache(run / "half", Header.read(run / "half"))
    assert done["fingerprint"] == cache.header.json()["fingerprint"]
    assert done["records"] == 1077 * 2 + 360 + 360
    assert done["bytes"] == done["records"] * 2 * (10 + 24)
    assert cache.load_all("train")["tap/pooled"].shape == (1077, 2, 24)


def test_the_plan_has_the_size_of_the_cache(stages, tmp_path):
    fresh = pipeline.prepare(load.load(CACHED), tmp_path / "none")
    lines = "\n".join(plan.describe(fresh["half"]))
    assert "train 1,077 x 2 + validation 360 x 1 + test 360 x 1 = 2,874 records of 68 B" in lines
    assert "190.9 KiB" in lines
    training_plan.step_program(fresh["read"]).compile()  # of a cache that is not written yet


@pytest.mark.slow
def test_a_bucket_is_for_the_method_that_takes_it(tmp_path):
    sections = dict(
        cache=dict(cache=dict(store="top_k", k=3)),
        read=dict(
            networks=dict(teacher=TOP | dict(tail="bucket")),
            terms=dict(kd=dict(method="top_k", weight=1.0)),
            evaluate=dict(every=0, metrics=()),
        ),
    )
    stage = prepared(tmp_path / "run", **sections)["read"]
    assert stage.shapes.outputs["teacher"].logits.ids.shape == (120, 3)
    assert "likeliest 3 classes" in "\n".join(plan.describe(stage))
    assert stage.data.batch["cached/teacher/ids"].dtype == np.uint16


def test_a_cache_of_another_run_is_read_and_its_teacher_verified(run, tmp_path):
    by = dict(source="cached", cache=str(run / "cache"), teacher=str(run / "teacher"))
    stage = prepared(tmp_path / "run", read=dict(networks=dict(teacher=by)))["read"]
    caches.verify(stage, tmp_path / "run")
    assert stage.data.loader().resident["cached/teacher/logits"].shape == (1077, 2, 10)
    other = by | dict(teacher=str(run / "live"))
    with pytest.raises(UserError, match=r"cached by another teacher"):
        caches.verify(prepared(tmp_path / "run", read=dict(networks=dict(teacher=other)))["read"], tmp_path / "run")


def test_a_cache_by_a_teacher_that_was_trained_anew_is_refused(run, monkeypatch):
    monkeypatch.setattr(weights.CheckpointRef, "fingerprint", lambda place: "other")
    with pytest.raises(UserError) as raised:
        ran(run)
    assert "holds another cache" in str(raised.value)
    assert "'weights': 'other'" in str(raised.value)
    assert f"move {run / 'cache'} away" in str(raised.value)


def test_sharding_and_offload_do_not_change_what_a_cache_is_of(run, stages):
    def describe(**changes):
        settings = stages["cache"].settings
        network = settings.networks["teacher"]
        options = network.options | {key: changes.pop(key) for key in ("offload", "fold") if key in changes}
        changed = dataclasses.replace(network, options=options, **changes)
        settings = dataclasses.replace(settings, networks=settings.networks | {"teacher": changed})
        return cache.describe_teacher(dataclasses.replace(stages["cache"], settings=settings), run)

    assert describe(offload=True) == describe(sharding=(("kernel", ("fsdp",)),)) == describe()
    assert describe(fold=False) != describe()


def test_a_damaged_cache_of_another_run_is_refused(run, tmp_path):
    shutil.copytree(run / "cache", tmp_path / "cache")
    os.truncate(tmp_path / "cache" / "test" / "00000.array_record", 70_000)
    by = dict(source="cached", cache=str(tmp_path / "cache"))
    stage = prepared(tmp_path / "run", read=dict(networks=dict(teacher=by)))["read"]
    with pytest.raises(UserError, match="is damaged; the command that made it mends it"):
        caches.verify(stage, tmp_path / "run")
    (tmp_path / "cache" / "done.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        prepared(tmp_path / "run", read=dict(networks=dict(teacher=by)))


def test_a_part_of_the_data_reads_the_cache_of_all_of_it(run, tmp_path):
    by = dict(source="cached", cache=str(run / "cache"))
    part = dict(partition=dict(of=3, part=1, by="iid", concentration=0.5, seed=0))
    stage = prepared(tmp_path / "run", read=dict(networks=dict(teacher=by), data=part))["read"]
    made = stage.data.loader()
    fed = next(made.step_inputs(2, 3))
    raw = made.make_batch(made.resident, fed)
    assert set(fed["index"].tolist()) <= set(stage.data.train.index(np.arange(len(stage.data.train))).tolist())
    expected = Cache(run / "cache", Header.read(run / "cache")).take("train", fed["index"], fed["view"])["logits"]
    np.testing.assert_array_equal(raw["cached/teacher/logits"], expected)


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(run, tmp_path):
    """Shards dealt to real processes over `jax.distributed`; each device has the same rows in both."""
    teacher = f"--config.networks.teacher.weights={run / 'teacher'}"
    command = [sys.executable, "-m", "jaxdistill.launch", "--config", f"{CACHED}:alone", teacher]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        join = [f"--coordinator=localhost:{free.getsockname()[1]}", "--processes=2"]
    several = {"one": [[]], "two": [[*join, f"--process={number}"] for number in (0, 1)]}
    for name, flags in several.items():
        words = [[*command, "--workdir", str(tmp_path / name), *more] for more in flags]
        devices = os.environ | {"JAX_NUM_CPU_DEVICES": str(2 // len(flags))}
        started = [subprocess.Popen(each, env=devices, stdout=subprocess.DEVNULL) for each in words]
        assert [process.wait(timeout=300) for process in started] == [0] * len(started)
    assert content(tmp_path / "one" / "cache") == content(tmp_path / "two" / "cache")
    written = Cache(tmp_path / "two" / "cache", Header.read(tmp_path / "two" / "cache"))
    assert written.missing() == []
    expected = Cache(run / "cache", Header.read(run / "cache")).load_all("train")["logits"]
    np.testing.assert_allclose(written.load_all("train")["logits"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_hidden_states_teach_as_the_live_teacher_to_the_bit(tmp_path):
    """In bfloat16, a byte cache of two and a scale; cut off before the kernel it is resumed."""
    decoder = dict(model="decoder", layers=1, width=16, heads=2, length=10, positions="rotary")
    teacher = dict(decoder, source="frozen", dtype="bfloat16", weights="stage:teacher")
    config = dict(
        batch=16,
        steps=3,
        log_every=1,
        seed=0,
        data=dict(name="sums", subset=dict(count=64)),
        networks=dict(teacher=teacher, student=dict(decoder, source="trained")),
        evaluate=dict(every=0, metrics=()),
        stages=dict(
            teacher=dict(
                networks=dict(teacher=dict(source="trained", weights="", dtype="float32")),
                terms=dict(task=dict(method="cross_entropy", student="teacher")),
            ),
            live=dict(networks=dict(teacher={}, student={}), terms=dict(kd=dict(method="forward_kl"))),
            cache=dict(
                kind="cache",
                networks=dict(teacher={}),
                cache=dict(store="hidden", dtype="bfloat16", splits=("train",)),
            ),
            read=dict(
                networks=dict(teacher=dict(source="cached", cache="stage:cache"), student={}),
                terms=dict(kd=dict(method="forward_kl")),
            ),
        ),
    )
    config["networks"]["cached"] = dict(source="cached", cache="stage:cache")
    config["stages"]["read"]["networks"]["teacher"] = dict(like="cached")
    for again in (False, True):
        if again:
            (tmp_path / "cache" / "shared.bin").unlink()
        jaxdistill.run(ConfigDict(config), tmp_path, log=lambda line: None)
    live, read = (
        [line["loss"] for line in runs.lines(tmp_path) if line["stage"] == stage] for stage in ("live", "read")
    )
    assert len(live) == 3
    assert live == read
    assert (tmp_path / "cache" / "shared.bin").is_file()


@pytest.mark.slow
def test_fewer_numbers_of_a_state_are_fitted_once_and_hold_a_bound(tmp_path):
    """Cut off before what all records share, the stage makes the same bytes again; the student is close to the live."""
    decoder = dict(model="decoder", layers=1, width=16, heads=2, length=10, positions="rotary")
    kd = dict(kd=dict(method="forward_kl"))
    svd = dict(store="svd", rank=14, dtype="bfloat16", splits=("train",))
    config = dict(
        batch=16,
        steps=3,
        log_every=1,
        data=dict(name="sums", subset=dict(count=64)),
        networks=dict(
            teacher=dict(decoder, source="frozen", dtype="bfloat16", weights="stage:teacher"),
            student=dict(decoder, source="trained"),
            stored=dict(source="cached", cache="stage:svd"),
        ),
        evaluate=dict(every=0, metrics=()),
        stages=dict(
            teacher=dict(
                networks=dict(teacher=dict(source="trained", weights="", dtype="float32")),
                terms=dict(task=dict(method="cross_entropy", student="teacher")),
            ),
            live=dict(networks=dict(teacher={}, student={}), terms=kd),
            svd=dict(kind="cache", networks=dict(teacher={}), cache=svd),
            read=dict(networks=dict(teacher=dict(like="stored"), student={}), terms=kd),
        ),
    )
    lines, files = [], ("shared.json", "train/00000.json")
    jaxdistill.run(ConfigDict(config), tmp_path / "run", log=lines.append)
    assert any("14 of 16 numbers of a state, mean KL" in line for line in lines)
    digests = [(tmp_path / "run" / "svd" / name).read_text() for name in files]
    for name in ("shared.bin", "train/00000.array_record", "done.json"):
        (tmp_path / "run" / "svd" / name).unlink()
    jaxdistill.run(ConfigDict(config), tmp_path / "run", log=lines.append)
    assert [(tmp_path / "run" / "svd" / name).read_text() for name in files] == digests
    live, read = ([x["loss"] for x in runs.lines(tmp_path / "run") if x["stage"] == name] for name in ("live", "read"))
    assert read == pytest.approx(live, rel=1e-2)
    assert Header.read(tmp_path / "run" / "svd").record.itemsize == 10 * 14 * 2
    config["stages"]["svd"]["cache"] = svd | dict(rank=1, bound=1e-6)
    with pytest.raises(UserError, match=r"cache.rank must be at least \d+ for a mean KL of cache.bound=1e-06, got 1,"):
        jaxdistill.run(ConfigDict(config), tmp_path / "other", log=lines.append)
    config["stages"]["svd"]["cache"] = dict(store="hidden", rank=3)
    with pytest.raises(UserError, match="cache.rank must be 0 with cache.store='hidden', got 3"):
        jaxdistill.run(ConfigDict(config), tmp_path / "third", log=lines.append)
