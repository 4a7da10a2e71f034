"""Sweeps of separate runs: their points, the stages that they share, and what is continued."""

import json
import pathlib

import pytest

import runs
from jaxdistill import sweep
from jaxdistill.errors import UserError


def parse(tmp_path, *words):
    return sweep.parse([runs.TINY, "--workdir", str(tmp_path / "sweep"), *words])[0]


def test_values_are_points_in_step_or_in_all_combinations(tmp_path):
    words = ("--values", "networks.student.widths=(8,),(8, 8)", "--values", "terms.kd.method=kd,dkd")
    points = parse(tmp_path, *words, "--config.batch=32").points
    assert points == [
        {"networks.student.widths": "(8,)", "terms.kd.method": "kd"},
        {"networks.student.widths": "(8, 8)", "terms.kd.method": "dkd"},
    ]
    assert len(parse(tmp_path, *words, "--grid").points) == 4
    assert parse(tmp_path, *words, "--config.batch=32").words(1) == [
        "--config.batch=32",
        "--config.networks.student.widths=(8, 8)",
        "--config.terms.kd.method=dkd",
    ]


@pytest.mark.parametrize(
    ("values", "shared"),
    [
        ("terms.kd.temperature=1,2", ["teacher"]),
        ("networks.student.widths=(8,),(9,)", ["teacher"]),
        ("networks.teacher.widths=(8,),(9,)", []),
        ("batch=32,64", []),
        ("evaluate.metrics=accuracy,nll", []),
        ("stages.evaluate.evaluate.metrics=accuracy,nll", ["teacher", "distil"]),
    ],
)
def test_stages_that_are_equal_with_all_that_they_read_are_shared(tmp_path, values, shared):
    of_values = parse(tmp_path, "--values", values)
    assert sweep.find_shared([of_values.load(number) for number in range(2)]) == shared


def write_shared(folder):
    """Writes what a shared stage leaves."""
    (folder / "shared" / "teacher").mkdir(parents=True)
    (folder / "shared" / "teacher" / "done.json").write_text("{}")
    (folder / "shared" / "metrics.jsonl").write_text('{"stage": "teacher"}\n')


def test_runs_are_launched_with_finished_shared_stages_and_compared(tmp_path, monkeypatch):
    launched, compared = [], []

    def launch(config, workdir, words):
        launched.append((workdir.name, words))
        if workdir.name == "shared":
            write_shared(workdir.parent)
        else:
            assert (workdir / "teacher" / "done.json").is_file()
            assert (workdir / "metrics.jsonl").read_text() == '{"stage": "teacher"}\n'
            assert "distil" in json.loads((workdir / "config.json").read_text())["stages"]
            (workdir / "results.json").write_text("[]")
        return {"001": 137}.get(workdir.name, 0)  # killed, for want of memory

    monkeypatch.setattr(sweep, "_launch", launch)
    (tmp_path / "s" / "002").mkdir(parents=True)  # as a scheduler makes for its log
    monkeypatch.setattr(sweep.comparison, "main", lambda words: compared.append(words))
    words = [runs.TINY, "--workdir", str(tmp_path / "s"), "--values", "terms.kd.temperature=1,2,4", "--config.steps=6"]
    assert sweep.main(words) == 1
    assert [name for name, _ in launched] == ["shared", "000", "001", "002"]
    assert launched[0][1] == ["--config.steps=6", "--config.terms.kd.temperature=1", "--stages=teacher"]
    assert launched[2][1] == ["--config.steps=6", "--config.terms.kd.temperature=2"]
    assert compared == [[str(tmp_path / "s" / n) for n in ("000", "002")] + ["--out", str(tmp_path / "s/comparison")]]
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert sweep.main([*words, "--only", "task"]) == 0
    assert launched[-1][0] == "002"
    with pytest.raises(UserError, match=r"--workdir must be the folder of this sweep, got .*, whose \['flags'\] are"):
        sweep.main(words[:-1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--values", "batch"], "--values must be KEY=V,V,..., got 'batch'"),
        (
            ["--values", "batch=1,2", "--values", "steps=1"],
            "must have equal numbers of values, got {'batch': 2, 'steps'",
        ),
        (["--values", "batc=1,2"], "batc=1: batc must be"),
        (["--values", "batch=1,2", "--only", "2"], "--only must be the number of a run, from 0 to 1, got '2'"),
        (["--values", "batch=1,2", "--only", "task"], "--only must be a number outside of an array job, got 'task'"),
        (["--values", "terms.kd.temperature=1,2", "--only", "1"], r"must be finished before --only, got \['teacher'\]"),
        (["--values", "batch=1,2", "--values", "batch=3,4"], "must be the only place of a key, got batch twice"),
        (["--values", "batch=1,2", "--config.batch=3"], "must be the only place of a key, got batch twice"),
        (["--values", "batch=1,"], "--values must have no empty value, got 'batch=1,'"),
        (["--values", "batch=1,2", "--plan"], "--plan must be absent in a sweep"),
        (["--values", "batch=1,2", "--stages=distil"], "--stages must be absent in a sweep, got '--stages=distil'"),
        (["--values", "batch=1,2", "--config.steps", "3"], "--config.steps must have its value in the same word"),
        ([], "the following arguments are required: --values. See jaxdistill sweep --help"),
        (["--values", "batch=1,2", "word"], "unrecognized arguments: word. See jaxdistill sweep --help"),
    ],
)
def test_mistakes(tmp_path, words, message):
    with pytest.raises(UserError, match=message):
        sweep.main([runs.TINY, "--workdir", str(tmp_path / "sweep"), *words])


@pytest.mark.slow
def test_a_sweep_trains_the_teacher_once_and_ends_in_a_comparison(tmp_path):
    words = [runs.TINY, "--workdir", str(tmp_path / "s"), "--values", "terms.kd.method=kd,dkd", "--config.steps=4"]
    assert sweep.main(words) == 0
    folder = tmp_path / "s"
    assert {path.name for path in folder.iterdir()} == {"shared", "000", "001", "comparison", "sweep.json"}
    assert (folder / "000" / "teacher").resolve() == (folder / "shared" / "teacher").resolve()
    rows = [runs.results(folder / name) for name in ("000", "001")]
    assert rows[0][0] == rows[1][0]
    assert pathlib.Path(folder / "comparison" / "comparison.html").is_file() or any((folder / "comparison").iterdir())


@pytest.mark.parametrize("status", [75, 130, 143])
def test_a_run_that_is_stopped_and_saved_ends_the_sweep(tmp_path, monkeypatch, status):
    launched = []
    monkeypatch.setattr(sweep, "_launch", lambda config, workdir, words: launched.append(workdir.name) or status)
    assert sweep.main([runs.TINY, "--workdir", str(tmp_path / "s"), "--values", "batch=32,64"]) == status
    assert launched == ["000"]
