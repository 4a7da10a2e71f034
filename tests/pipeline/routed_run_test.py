"""Teachers by example from a config: all on the device, one of them, and from caches; and the numbers of each."""

import json
import pathlib

import numpy as np
import pytest

import runs

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "routed.py")
pytestmark = pytest.mark.slow


def write_sums(path, kinds=("even", "odd")):
    rows = [{"q": f"{n}+1=", "a": str(n + 1), "kind": kinds[n % len(kinds)]} for n in range(60)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return f"--config.data.path={path}"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("routed")
    assert runs.launched(folder / "run", write_sums(folder / "sums.jsonl"), config=CONFIG) == 0
    return folder / "run"


def params(run, stage):
    return {name: x for name, x in runs.weights(run, stage, 4).items() if name.startswith("params.student")}


@pytest.mark.parametrize(("stage", "rtol"), [("one", 0), ("read", 1e-4), ("read_one", 1e-4)])
def test_the_student_is_that_of_all_teachers_on_the_device(run, stage, rtol):
    """To the bit if one is at a time; a cache of float32 has the programs' rounding."""
    for name, x in params(run, "all").items():
        np.testing.assert_allclose(params(run, stage)[name], x, rtol=rtol, atol=rtol / 100, err_msg=name)


@pytest.mark.parametrize("stage", ["averaged", "averaged_read"])
def test_an_average_of_teachers_is_computed_in_chunks_and_from_caches(run, stage):
    for name, x in params(run, "averaged_dense").items():
        np.testing.assert_allclose(params(run, stage)[name], x, rtol=1e-4, atol=1e-6, err_msg=name)
    assert any(np.abs(params(run, "all")[name] - x).max() > 1e-4 for name, x in params(run, "averaged").items())


def test_each_line_has_the_part_and_the_share_of_each_teacher(run):
    lines = [line for line in runs.lines(run) if line["stage"] == "one" and "loss" in line]
    assert len(lines) == 4
    for line in lines:
        assert line["kd/even"] + line["kd/odd"] == pytest.approx(line["kd"], rel=1e-5)
        assert line["kd/even/share"] + line["kd/odd/share"] == pytest.approx(1, rel=1e-5)
    assert len({line["kd/even/share"] for line in lines}) > 1


def test_an_evaluation_has_the_numbers_of_each_teacher(run):
    """A network is its own teacher on its part; parts of the accuracy add up to it."""
    rows = {row["network"]: row for row in runs.results(run)}
    counts = json.loads((run / "evaluation.json").read_text())["route"]
    assert counts["column"] == "kind"
    for teacher, part in (("even", "even"), ("odd", "odd")):
        assert rows[teacher][f"kl:{part}"] == pytest.approx(0, abs=1e-6)
        assert rows[teacher][f"agreement:{part}"] == 1
        assert rows[teacher]["kl"] > 1e-4
        assert rows["teacher"][f"nll:{part}"] == pytest.approx(rows[teacher][f"nll:{part}"], rel=1e-6)
    for row in rows.values():
        assert min(row["nll:even"], row["nll:odd"]) <= row["nll"] <= max(row["nll:even"], row["nll:odd"])
    logged = [line for line in runs.lines(run) if line["stage"] == "all" and "student/nll" in line]
    assert logged[-1]["student/nll:even"] == pytest.approx(rows["student"]["nll:even"], rel=1e-5)
    assert "by kind" in (run / "report.html").read_text()


def test_a_value_without_a_teacher_is_refused_before_the_run(tmp_path, capsys):
    flag = write_sums(tmp_path / "sums.jsonl", ("even", "odd", "prime"))
    assert runs.launched(tmp_path / "run", flag, "--plan", config=CONFIG) == 2
    assert "networks.teacher.values must be all values of data.route, got none of ['prime']" in capsys.readouterr().err
