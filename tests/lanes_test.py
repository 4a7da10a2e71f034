"""Lanes: several runs of a stage in one program, each the run that its own settings would be."""

import pathlib
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import runs
from jaxdistill import build, lanes, pipeline, sweep
from jaxdistill import config as configs
from jaxdistill.errors import UserError
from jaxdistill.train.stop import Stop
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


@pytest.mark.parametrize("flags", [(), ("--config.data.resident=no", "--config.dispatch=2")], ids=["", "streamed"])
def test_lanes_resume_and_stream(whole, tmp_path, monkeypatch, flags):
    def asked(self, step):
        self.signal = signal.SIGTERM if step == 5 else None
        return self.signal is not None

    monkeypatch.setattr(Stop, "asked", asked)
    assert launched(tmp_path, *flags, config=PARTS) == 128 + signal.SIGTERM
    monkeypatch.undo()
    assert launched(tmp_path, *flags, config=PARTS) == 0
    again, before = runs.weights(tmp_path, "teachers", 6), runs.weights(whole, "teachers", 6)
    for name, value in before.items():
        np.testing.assert_allclose(again[name], value, rtol=2e-4 * bool(flags), atol=2e-5 * bool(flags), err_msg=name)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.stages.evaluate.networks.part0.weights=stage:teachers@3", "from ...@0 to ...@2"),
        ("--config.stages.teachers.sweep.seed=(0, 1)", "all have one for each lane, or set sweep.grid=True"),
        ("--config.stages.teachers.sweep.seed=(0, 1, 0.5)", "no list of whole numbers"),
        ("--config.stages.teachers.sweep.seed=(0, 1, -1)", "seed=-1 makes no sense"),
        ("--config.stages.teachers.sweep.seed=(0, 1, 4294967296)", "it is less than 2^32"),
    ],
)
def test_mistakes_are_told(tmp_path, capsys, flag, message):
    assert launched(tmp_path, flag, config=PARTS) == 2
    assert message in capsys.readouterr().err


def test_what_cannot_be_swept_is_told():
    with pytest.raises(UserError, match=r"no setting of stage 's' that can be swept: 'data.partition.parts'; did you"):
        sweep.lanes("s", {"kind": "train", "sweep": {"data": {"partition": {"parts": (0, 1)}}}})
    with pytest.raises(UserError, match="only training is done in lanes"):
        sweep.lanes("s", {"kind": "merge", "sweep": {"seed": (0, 1)}})


SWEPT = str(runs.TINY).replace("tiny.py", "swept.py")


def test_lanes_that_differ_in_numbers_are_the_separate_runs(tmp_path):
    """Of one stream of data: seeds of the students, rates, decays, temperatures and schedules of weights."""
    assert launched(tmp_path / "whole", config=SWEPT) == 0
    together = runs.weights(tmp_path / "whole", "distil", 6)
    lane = ["seed=1", "rate.init_value=0.03", "optimizer.weight_decay=0.1", "terms.kd.temperature=4.0"]
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


def test_lanes_of_one_stream_share_it():
    whole = configs.read(SWEPT).to_dict()
    stages = pipeline.prepare(whole, pathlib.Path())
    assert lanes.share_batches(stages["distil"])
    assert lanes.feeder(stages["distil"]).leading == 0
    whole["data"]["seed"] = -1
    assert not lanes.share_batches(pipeline.prepare(whole, pathlib.Path())["distil"])


def test_a_grid_has_a_lane_for_each_combination():
    section = {"grid": True, "seed": (0, 1), "terms": {"kd": {"temperature": (1.0, 2.0, 4.0)}}}
    settings = {"kind": "train", "seed": 7, "terms": {"kd": {"temperature": 3.0}}, "sweep": section}
    made = sweep.lanes("s", settings)
    assert [(one["seed"], one["terms"]["kd"]["temperature"]) for one in made] == [
        (seed, temperature) for seed in (0, 1) for temperature in (1.0, 2.0, 4.0)
    ]
    assert settings["seed"] == 7


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.stages.distil.sweep.optimizer.weight_decay=(0.0, 0.1, 0.3)", "has 0, none, beside others"),
        ("--config.stages.distil.sweep.rate.init_value=(0.1, -0.1, 0.1)", "it is finite and 0 or more"),
        ("--config.stages.distil.sweep.terms.kd.temperature=(1.0, 0.0, 2.0)", "temperature=0.0 makes no sense"),
        (
            "--config.stages.teacher.sweep.seed=(0, 1)",
            "was trained in 2 lanes; name one, from ...@0 to ...@1, or sweep as",
        ),
        ("--config.stages.distil.sweep.form=loop", "no form of lanes for stage 'distil', sweep.form 'loop'"),
    ],
)
def test_mistakes_of_a_lane_are_told(tmp_path, capsys, flag, message):
    assert launched(tmp_path, flag, config=SWEPT) == 2
    assert message in capsys.readouterr().err


def test_lanes_differ_in_fractions_alone():
    whole = configs.read(SWEPT).to_dict()
    whole["terms"]["kd"] = {"method": "kd"}
    whole["stages"]["distil"]["sweep"] = {"terms": {"kd": {"standardize": (1, 0, 1)}}}
    with pytest.raises(UserError, match="standardize"):
        pipeline.prepare(whole, pathlib.Path())
    whole["stages"]["distil"]["sweep"] = {"optimizer": {"nesterov": (0, 1, 0)}}
    with pytest.raises(UserError, match="sweep.optimizer.nesterov has the default False; lanes differ in fractions"):
        pipeline.prepare(whole, pathlib.Path())
    whole["stages"]["distil"]["sweep"] = {"terms": {"dk": {"temperature": (1.0, 2.0)}}}
    with pytest.raises(UserError, match=r"no section of stage 'distil' to sweep in: 'terms.dk'"):
        pipeline.prepare(whole, pathlib.Path())


@pytest.mark.parametrize("form", ["unroll", "map"])
@pytest.mark.parametrize("mode", ["", pytest.param("conv", marks=pytest.mark.slow)])
def test_forms_give_the_same_numbers(form, mode):
    whole = configs.read(f"{PARTS}:{mode}").to_dict()
    settings = configs.stages(whole)["teachers"] | {"batch": 8}

    def found(kind):
        stage = build.stage("teachers", settings | {"sweep": settings["sweep"] | {"form": kind}})
        assert lanes.form(stage) == kind
        state, frozen = jax.jit(lambda: lanes.initial(stage, {}))()
        batch = jax.tree.map(lambda x: jnp.ones((3, *x.shape), x.dtype), stage.raw)
        batch["label"] = batch["index"] = jnp.arange(24, dtype=jnp.int32).reshape(3, 8) % 10
        state, said = jax.jit(lanes.step(stage))(state, frozen, batch)
        return state.params, said

    for one, other in zip(*(jax.tree.leaves(found(kind)) for kind in ("vmap", form)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_lanes_with_convolutions_are_unrolled_on_a_cpu():
    whole = configs.read(f"{PARTS}:conv").to_dict()
    stages = pipeline.prepare(whole, pathlib.Path())
    assert lanes.form(stages["teachers"]) == "unroll"
    assert lanes.form(pipeline.prepare(configs.read(SWEPT).to_dict(), pathlib.Path())["distil"]) == "vmap"
