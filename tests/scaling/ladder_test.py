"""Ladders are read from finished runs, and runs that are no ladder are refused."""

import json
import pathlib

import numpy as np
import pytest

from jaxdistill.errors import UserError
from jaxdistill.scaling.ladder import read_ladder
from ladder_runs import loss_of, write_ladder, write_rung


def test_a_ladder_is_read_from_a_sweep(tmp_path):
    ladder = read_ladder([write_ladder(tmp_path / "s", steps=(50,))])
    assert (ladder.axes, ladder.fixed) == (("parameters", "examples"), {"steps": 50.0})
    assert (ladder.names, ladder.metric) == (("distilled", "alone"), "nll")
    assert ladder.places.tolist()[:4] == [[10, 100], [10, 200], [10, 400], [20, 100]]
    np.testing.assert_allclose(
        [losses.mean() for losses in ladder.students[:2]], [loss_of(10, n, 50) for n in (100, 200)]
    )
    np.testing.assert_allclose(ladder.controls[0], loss_of(10, 100, 50, 0.5) * np.array([0.9995, 1.0005]))
    assert ladder.select({"examples": 200}).places.tolist()[:3] == [[10, 100], [10, 200], [20, 100]]


def change(folder, name, edit):
    path = pathlib.Path(folder) / name
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


def test_networks_of_several_sizes_in_one_run_are_found_by_a_pattern(tmp_path):
    folder = write_rung(tmp_path / "a", 10, 100, 50)

    def widen(rows):
        rows += [row | {"network": f"{row['network']}_wide", "parameters": 20, "nll": 0.1} for row in rows]

    change(folder, "lanes.json", widen)

    def name(config):
        networks = config["stages"]["evaluate"]["networks"]
        networks |= {f"{key}_wide": value for key, value in networks.items()}

    change(folder, "config.json", name)
    ladder = read_ladder([folder], "distilled*", "alone*")
    assert ladder.places.tolist() == [[10], [20]]
    assert ladder.controls[1].tolist() == [0.1, 0.1]
    with pytest.raises(
        UserError, match="--student must name a student of the results, got none of these: distilled with"
    ):
        read_ladder([folder])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("distiled", "alone"), "--student or --control must be .* got 'distiled'. Did you mean 'distilled'?"),
        (("distilled", "alone", "accuracy"), "--metric must be a loss, positive and better when it is small, got 'acc"),
        (("distilled", "alone", "rmse"), "--metric must be a loss, .* got 'rmse' with None of distilled in"),
    ],
)
def test_mistakes(tmp_path, arguments, message):
    with pytest.raises(UserError, match=message):
        read_ladder([write_rung(tmp_path / "a", 10, 100, 50)], *arguments)


def test_runs_that_are_no_ladder(tmp_path):
    first = write_rung(tmp_path / "a", 10, 100, 50)
    with pytest.raises(UserError, match="several sizes, numbers of examples or steps, got one setting"):
        read_ladder([first])
    with pytest.raises(UserError, match="RUN must be named once, got '.*a' twice, of its sweep too. Leave one out"):
        read_ladder([first, f"{first}/"])
    other = write_rung(tmp_path / "b", 10, 100, 50, temperature=2.0)
    with pytest.raises(UserError, match=r"two of 10 parameters, 100 examples, 50 steps that differ in terms\.kd\.temp"):
        read_ladder([first, other])
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="RUN must be a sweep with finished runs, got"):
        read_ladder([str(tmp_path / "s")])
    change(first, "lanes.json", lambda rows: rows.pop())
    with pytest.raises(UserError, match="each distilled must have a alone of the same parameters, examples and steps"):
        read_ladder([first])
    log = (tmp_path / "b" / "metrics.jsonl").read_text().splitlines(keepends=True)
    for lines, last in (([log[0], log[1][:9]], 25), ([], 0)):
        (tmp_path / "b" / "metrics.jsonl").write_text("".join(lines))
        with pytest.raises(
            UserError, match=f"b/metrics.jsonl must have the 50 steps of .*got the whole lines of {last}"
        ):
            read_ladder([other])
    change(other, "config.json", lambda config: config["stages"]["evaluate"]["networks"]["distilled"].pop("weights"))
    with pytest.raises(UserError, match="must be networks that a stage of their run trained, got 'distilled'"):
        read_ladder([other], "distilled", "alone")
