"""Lanes: several runs of a stage in one program, each the run that its own settings would be."""

import dataclasses
import json
import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from jaxdistill.build import resolve, weights
from jaxdistill.build.lanes import check_lanes
from jaxdistill.config import load as configs
from jaxdistill.config import references
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run
from jaxdistill.train import checkpoint, flops, mesh
from runs import launched

PARTS = str(runs.TINY).replace("tiny.py", "parts.py")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("lanes")
    assert launched(workdir, config=PARTS) == 0
    return workdir


def assert_separate(whole, tmp_path, mode=""):
    together = runs.weights(whole, "teachers", 6)
    for lane, (seed, part) in enumerate([(0, 0), (1, 1), (1, 2)]):
        flags = [f"--config.stages.teachers.seed={seed}", f"--config.stages.teachers.data.partition.part={part}"]
        assert launched(tmp_path / str(lane), *flags, config=f"{PARTS}:single{mode}") == 0
        alone = runs.weights(tmp_path / str(lane), "teachers", 6)
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][lane], value, rtol=2e-4, atol=2e-5, err_msg=name)


def test_lanes_are_the_separate_runs(whole, tmp_path):
    """Seed, part of the data, augmentation, dropout: all are those of the single run."""
    assert_separate(whole, tmp_path)


@pytest.mark.slow
def test_lanes_of_convolutions_are_the_separate_runs(tmp_path):
    """With batch statistics; by SGD, since Adam makes steps of gradients that are rounding alone."""
    assert launched(tmp_path / "whole", config=f"{PARTS}:conv") == 0
    assert_separate(tmp_path / "whole", tmp_path, "conv")


def test_lanes_are_logged_each_and_in_the_mean(whole):
    for line in runs.lines(whole):
        if line["stage"] != "teachers":
            continue
        for name in ("loss", "teacher/accuracy"):
            if name in line:
                np.testing.assert_allclose(line[name], np.mean([line[f"{k}/{name}"] for k in range(3)]), rtol=1e-5)
    assert any("2/teacher/accuracy" in line for line in runs.lines(whole))


def test_weights_name_a_lane(whole):
    """The evaluation's three networks are the three lanes."""
    accuracies = {row["network"]: row["accuracy"] for row in runs.results(whole)}
    last = [line for line in runs.lines(whole) if "2/teacher/accuracy" in line][-1]
    assert last["split"] == "validation"
    assert len({accuracies[f"part{k}"] for k in range(3)}) > 1
    for k in range(3):
        np.testing.assert_allclose(accuracies[f"part{k}"], last[f"{k}/teacher/accuracy"], rtol=1e-5)


@pytest.mark.parametrize(
    "flags", [(), ("--config.data.resident=no", "--config.steps_per_call=2")], ids=["", "streamed"]
)
def test_lanes_resume_and_stream(whole, tmp_path, capsys, flags):
    check = 1 + (3 if "--config.steps_per_call=2" in flags else 5)
    assert launched(tmp_path, *flags, config=PARTS, stop=runs.stop_at(check)) == 128 + signal.SIGTERM
    assert "step 5 of 6 is saved" in capsys.readouterr().err
    assert launched(tmp_path, *flags, config=PARTS) == 0
    again, before = runs.weights(tmp_path, "teachers", 6), runs.weights(whole, "teachers", 6)
    for name, value in before.items():
        np.testing.assert_allclose(again[name], value, rtol=2e-4 * bool(flags), atol=2e-5 * bool(flags), err_msg=name)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.stages.evaluate.networks.part0.weights=stage:teachers@3", "from ...@0 to ...@2"),
        ("--config.stages.teachers.sweep.seed=(0, 1)", "must have tuples of one length, a value for each lane, got"),
        (
            "--config.stages.teachers.sweep.seed=(0, 1, 0.5)",
            "must be a tuple of whole numbers, one for each lane, got (0, 1, 0.5)",
        ),
        ("--config.stages.teachers.sweep.seed=(0, 1, -1)", "seed must be at least 0 and finite, got -1"),
        ("--config.stages.teachers.sweep.seed=(0, 1, 4294967296)", "seed must be less than 4294967296, got 4294967296"),
    ],
)
def test_mistakes_are_refused(tmp_path, capsys, flag, message):
    assert launched(tmp_path, flag, config=PARTS) == 2
    assert message in capsys.readouterr().err


SWEPT = str(runs.TINY).replace("tiny.py", "swept.py")


def test_lanes_that_differ_in_numbers_are_the_separate_runs(tmp_path):
    """Of one stream of data: seeds of the students, rates, decays, temperatures and schedules of weights."""
    assert launched(tmp_path / "whole", config=SWEPT) == 0
    together = runs.weights(tmp_path / "whole", "distil", 6)
    lane = ["seed=1", "learning_rate.init_value=0.03", "optimizer.weight_decay=0.1", "terms.kd.temperature=4.0"]
    lane += ["terms.kd.weight.to=0.5"]
    teacher = f"--config.networks.teacher.weights={tmp_path}/whole/teacher"
    flags = [teacher, *(f"--config.stages.distil.{each}" for each in lane)]
    assert launched(tmp_path / "one", *flags, config=f"{SWEPT}:single") == 0
    for name, value in runs.weights(tmp_path / "one", "distil", 6).items():
        np.testing.assert_allclose(together[name][1], value, rtol=5e-4, atol=5e-5, err_msg=name)
    ours = [line for line in runs.lines(tmp_path / "whole") if line["stage"] == "distil"]
    theirs = [line for line in runs.lines(tmp_path / "one") if line["stage"] == "distil"]
    for both, alone in zip(ours, theirs, strict=True):
        for key in ("kd", "task", "loss", "grad_norm", "slow/accuracy"):
            if key in alone:
                np.testing.assert_allclose(both[f"1/{key}"], alone[key], rtol=1e-3, err_msg=key)
        if "rate" in both:
            assert both["rate"] != pytest.approx(alone["rate"], rel=1e-2)  # the mean of the lanes'


@pytest.mark.parametrize(
    "swept",
    [
        {"learning_rate": {"init_value": (0.01, 0.02)}},
        {"optimizer": {"b1": (0.9, 0.5)}},
        {"optimizer": {"groups": {"head": {"learning_rate_factor": (1.0, 2.0)}}}},
        {"optimizer": {"groups": {"head": {"learning_rate": (0.1, 0.2)}}}},
        {"optimizer": {"groups": {"head": {"weight_decay": (0.1, 0.9)}}}},
    ],
    ids=["rate", "b1", "factor of a group", "rate of a group", "decay of a group"],
)
def test_lanes_that_differ_in_one_number_of_the_optimizer_take_different_steps(swept):
    whole = configs.read(SWEPT)
    whole["stages"]["distil"]["sweep"] = swept
    groups = {
        "head": {"pattern": "head/kernel", "learning_rate_factor": 1.0},
        "frozen": {"pattern": "head/bias", "frozen": True},
    }
    whole["stages"]["distil"]["optimizer"] = whole["optimizer"] | {"groups": groups}
    stage = run.prepare(configs.stages(whole), pathlib.Path())["distil"]
    frozen, step = jax.jit(stage.init)()[1], jax.jit(stage.runs.step())
    batch = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), stage.data.raw_batch)
    state = jax.jit(stage.runs.init)(frozen)
    bias = state.params["student"]["head"]["bias"]
    for label in (1, 2):
        state, _ = step(state, frozen, batch | {"label": jnp.full(64, label, jnp.int32)})
    kernel = state.params["student"]["head"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1], atol=1e-6)
    np.testing.assert_array_equal(state.params["student"]["head"]["bias"], bias)


def test_lanes_of_one_stream_share_it():
    whole = configs.read(SWEPT)
    stages = run.prepare(configs.stages(whole), pathlib.Path())
    assert stages["distil"].runs.share_batches
    assert stages["distil"].runs.loader().leading == 0
    whole["data"]["seed"] = -1
    assert not run.prepare(configs.stages(whole), pathlib.Path())["distil"].runs.share_batches


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.stages.distil.sweep.optimizer.weight_decay=(0.0, 0.1, 0.3)", "mixes 0, which turns it off"),
        (
            "--config.stages.distil.sweep.learning_rate.init_value=(0.1, -0.1, 0.1)",
            "learning_rate must be at least 0 and finite",
        ),
        (
            "--config.stages.distil.sweep.terms.kd.temperature=(1.0, 0.0, 2.0)",
            "temperature must be greater than 0 and finite, got 0.0",
        ),
        (
            "--config.stages.teacher.sweep.seed=(0, 1)",
            "was trained in 2 lanes; name one, from ...@0 to ...@1, or sweep as",
        ),
        (
            "--config.stages.distil.sweep.form=loop",
            "stages.distil.sweep.form must be an existing name, got 'loop'",
        ),
    ],
)
def test_mistakes_of_a_lane_are_refused(tmp_path, capsys, flag, message):
    assert launched(tmp_path, flag, config=SWEPT) == 2
    assert message in capsys.readouterr().err


def test_lanes_differ_in_fractions_alone():
    whole = configs.read(SWEPT)
    whole["terms"]["kd"] = {"method": "kd"}
    whole["stages"]["distil"]["sweep"] = {"terms": {"kd": {"standardize": (1, 0, 1)}}}
    with pytest.raises(UserError, match="standardize"):
        run.prepare(configs.stages(whole), pathlib.Path())
    whole["stages"]["distil"]["sweep"] = {"optimizer": {"nesterov": (0, 1, 0)}}
    with pytest.raises(UserError, match="stages.distil.optimizer.nesterov must be True or False, got 0"):
        run.prepare(configs.stages(whole), pathlib.Path())
    whole["stages"]["distil"]["sweep"] = {"terms": {"dk": {"temperature": (1.0, 2.0)}}}
    with pytest.raises(
        UserError,
        match="sweep.terms.dk.temperature must be a setting of the stage, got no section 'terms.dk'",
    ):
        run.prepare(configs.stages(whole), pathlib.Path())


@pytest.mark.parametrize("mode", ["", pytest.param("conv", marks=pytest.mark.slow)])
def test_forms_give_the_same_numbers(mode):
    whole = configs.read(f"{PARTS}:{mode}")
    settings = dataclasses.replace(configs.stages(whole)["teachers"], batch=8)

    def found(kind):
        stage = resolve.stage(
            "teachers", dataclasses.replace(settings, sweep=dataclasses.replace(settings.sweep, form=kind))
        )
        runs = stage.runs
        assert runs.form == kind
        state = jax.jit(runs.init)({})
        batch = jax.tree.map(lambda x: jnp.ones((3, *x.shape), x.dtype), stage.data.raw_batch)
        batch["label"] = batch["index"] = jnp.arange(24, dtype=jnp.int32).reshape(3, 8) % 10
        state, said = jax.jit(runs.step())(state, {}, batch)
        return state.params, said

    for one, other in zip(*(jax.tree.leaves(found(kind)) for kind in ("vmap", "unroll")), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_lanes_with_convolutions_are_unrolled_on_a_cpu():
    whole = configs.read(f"{PARTS}:conv")
    stages = run.prepare(configs.stages(whole), pathlib.Path())
    assert stages["teachers"].runs.form == "unroll"
    assert run.prepare(configs.load(SWEPT), pathlib.Path())["distil"].runs.form == "vmap"


def distil(form, **sweep):
    whole = configs.read(SWEPT)
    whole["stages"]["distil"]["sweep"] |= {"form": form} | sweep
    return run.prepare(configs.stages(whole), pathlib.Path())["distil"]


@pytest.mark.parametrize("form", ["vmap", "unroll"])
def test_a_teacher_that_all_lanes_share_runs_once(form):
    """And every lane learns what it would learn: the teacher's answer is not of one lane."""
    stage, single = distil(form), distil("vmap", grid=False)
    frozen = jax.jit(stage.init)()[1]
    state, before = (jax.jit(s.runs.init)(frozen) for s in (stage, single))
    batch = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), stage.data.raw_batch)
    batch["label"] = batch["index"] = jnp.arange(64, dtype=jnp.int32) % 10
    counted = flops.count(stage.runs.step(), state, frozen, batch)["float32"]
    teacher, student = (2 * 64 * size for size in (64 * 16 + 16 * 10, 64 * 8 + 8 * 10))
    trained = 3 * student - 2 * 64 * 64 * 8  # no gradient by the images
    assert counted == teacher + 3 * trained
    state, wanted = (jax.jit(s.runs.step())(now, frozen, batch)[0] for s, now in ((stage, state), (single, before)))
    for one, other in zip(jax.tree.leaves(state.params), jax.tree.leaves(wanted.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_lanes_of_one_checkpoint_are_read_at_once(whole, monkeypatch):
    stage = run.prepare(configs.load(PARTS), whole)["teachers"]
    own = stage.shapes.variables["teacher"]
    shapes = mesh.structs(own, jax.tree.map(lambda _: mesh.replicated(stage.mesh), own))
    places = [weights.find_checkpoint(references.parse("stage:teachers"), "teacher", whole, lane) for lane in (2, 0, 1)]
    wanted = [jax.tree.leaves(weights.read(place, shapes)) for place in places]
    read, asked = checkpoint.read, []
    monkeypatch.setattr(checkpoint, "read", lambda *given, **keys: asked.append(given) or read(*given, **keys))
    found = [jax.tree.leaves(one) for one in weights.read_all(places, shapes)]
    assert len(asked) == 1
    assert not np.array_equal(found[0][0], found[1][0])
    for one, other in zip(found, wanted, strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_array_equal(x, y)


def test_an_evaluation_in_lanes_takes_networks_that_could_learn(tmp_path):
    """An exit of the student is asked in its lane as the student is."""
    config = str(runs.TINY).replace("tiny.py", "swept_exit.py")
    assert launched(tmp_path, config=config) == 0
    rows = {(row["network"], row["lane"]): row for row in json.loads((tmp_path / "lanes.json").read_text())}
    assert rows.keys() == {("student", 0), ("student", 1), ("early", 0), ("early", 1), ("teacher", None)}
    last = [line for line in runs.lines(tmp_path) if "1/early/accuracy" in line][-1]
    for lane in range(2):
        for name in ("student", "early"):
            np.testing.assert_allclose(rows[name, lane]["accuracy"], last[f"{lane}/{name}/accuracy"], rtol=1e-5)


def test_lanes_have_the_same_number_of_steps(stages):
    stage = stages["distil"]
    lanes = (stage, dataclasses.replace(stage, settings=dataclasses.replace(stage.settings, steps=9)))
    with pytest.raises(UserError, match=r"the lanes of stage 'distil' would have \[12, 9\] steps"):
        check_lanes(stage, lanes)
