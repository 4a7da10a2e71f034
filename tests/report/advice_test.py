"""Sentences on a run: students and controls, gaps, calibration, edges of a sweep, and time."""

import json
import math

import numpy as np
import pytest

from jaxdistill.report import advice
from jaxdistill.report.advice import Finished

TASK, KD = {"method": "cross_entropy", "student": "student", "teacher": ""}, {"method": "kd", "student": "student"}
STUDENT = {"source": "trained", "model": "mlp", "weights": ""}
TEACHER = {"source": "frozen", "model": "resnet", "weights": "stage:teacher"}


def frozen(stage):
    return {"source": "frozen", "model": "mlp", "weights": f"stage:{stage}"}


STAGES = {
    "teacher": {"networks": {"teacher": {**TEACHER, "source": "trained", "weights": ""}}, "terms": {}},
    "alone": {"networks": {"student": STUDENT}, "terms": {"task": TASK}},
    "distil": {
        "networks": {"teacher": TEACHER, "student": STUDENT, "slow": {"source": "ema", "of": "student"}},
        "terms": {"task": TASK, "kd": {**KD, "teacher": "teacher"}},
    },
    "tune": {"networks": {"student": {**STUDENT, "weights": "stage:distil"}}, "terms": {"task": TASK}},
    "evaluate": {
        "kind": "evaluate",
        "networks": {
            "teacher": TEACHER,
            "alone": frozen("alone"),
            "distilled": frozen("distil#student"),
            "slow": frozen("distil#slow"),
            "tuned": frozen("tune"),
        },
    },
}


def make_run(accuracies, lanes=None, stages=None, sweep=None, **fields):
    """Returns a run of networks with an accuracy, or one for each lane."""
    rows = []
    for name, values in accuracies.items():
        for lane, value in enumerate(values if isinstance(values, list) else [values]):
            lane = {"lane": lane if isinstance(values, list) else None} if lanes else {}
            rows.append({"network": name, "parameters": 900 if name == "teacher" else 90, "accuracy": value, **lane})
    config = {"stages": STAGES | ({"distil": STAGES["distil"] | {"sweep": sweep}} if sweep else {})}
    evaluation = {"reference": "teacher", "better": {"accuracy": "max"}, "examples": 100}
    values = {"predictions": {}, "seconds": {}} | fields
    return Finished(config=config, evaluation=evaluation, rows=rows, stages=stages or {}, **values)


def test_a_students_control_has_its_model_and_no_teacher():
    run = make_run({"teacher": 0.9, "alone": 0.7, "distilled": 0.8, "slow": 0.8, "tuned": 0.81})
    assert advice.find_pairs(run) == [("distilled", "alone"), ("slow", "alone"), ("tuned", "alone")]
    assert advice.find_pairs(make_run({"teacher": 0.9, "distilled": 0.8})) == [("distilled", "")]
    assert advice.advise(make_run({"teacher": 0.9, "distilled": 0.8}))[0].startswith("distilled has no control")
    several = advice.advise(make_run({"teacher": 0.9, "distilled": 0.8, "slow": 0.8, "tuned": 0.8}))
    assert [sentence.partition(":")[0] for sentence in several] == ["distilled, slow and tuned have no control"]


@pytest.mark.parametrize(
    ("distilled", "end"),
    [
        ([0.80, 0.82, 0.84], "more than the spread over 3 seeds (0.0000): it is better."),
        ([0.75, 0.68, 0.74], "no more than the spread over 3 seeds (0.0451): these numbers show no difference."),
        ([0.70, 0.72, 0.74], "distilled and alone are equal in accuracy."),
        ([0.60, 0.62, 0.64], "more than the spread over 3 seeds (0.0000): it is worse."),
        ([0.80, math.nan, 0.84], "more than the spread over 2 seeds (0.0000): it is better."),
        ([None, math.nan, 0.84], "one seed does not show whether that is chance. Sweep the seed: sweep.seed."),
    ],
)
def test_several_seeds_are_compared_in_pairs(distilled, end):
    stages = {"distil": [{"step": 1, "0/loss": 1.0, "1/loss": 1.0, "2/loss": 1.0}]}
    run = make_run(
        {"teacher": 0.9, "alone": [0.70, 0.72, 0.74], "distilled": distilled},
        lanes=True,
        stages=stages,
        sweep={"seed": [0, 1, 2]},
    )
    first, *others = advice.advise(run)
    assert first.endswith(end)
    assert [other.partition(" of the gap")[0] for other in others] == ["distilled closes 56%"] * ("better" in end)


def test_one_seed_has_the_error_over_the_examples():
    label = np.array([0, 1] * 50 + [-1])
    right = {"alone": label == 0, "distilled": label >= 0}
    arrays = {f"score/accuracy/{name}": np.where(label < 0, np.nan, x) for name, x in right.items()}
    run = make_run({"teacher": 0.9, "alone": 0.5, "distilled": 1.0}, predictions=arrays)
    assert advice.measure_difference(run, "distilled", "alone")[:2] == pytest.approx((0.5, 0.1005), abs=1e-4)
    first, second = advice.advise(run)
    assert first == (
        "distilled is 0.5000 above alone in accuracy, more than two standard errors over 100 examples, of one seed"
        " (0.1005): it is better."
    )
    assert second == "distilled closes 125% of the gap of 0.4000 between alone and teacher."
    sentences = advice.advise(make_run({"teacher": 0.5, "alone": 0.7, "distilled": 0.6}))
    assert sentences[0].endswith("one seed does not show whether that is chance. Sweep the seed: sweep.seed.")
    assert sentences[1] == "teacher is not better than alone: there is no gap to close."


def test_a_best_value_at_the_edge_of_a_sweep_is_named():
    stages = {"distil": [{"step": 1, "0/loss": 1.0, "1/loss": 1.0, "2/loss": 1.0}]}
    sweep = {"terms": {"kd": {"temperature": [1.0, 2.0, 4.0]}}}
    accuracies = {"teacher": 0.9, "alone": 0.7, "distilled": [0.7, 0.75, 0.8]}
    sweep["data"] = {"partition": {"part": [0, 1, 2]}}  # which has no order
    run = make_run(accuracies, lanes=True, stages=stages, sweep=sweep)
    assert advice.advise(run) == [
        "distilled is best at terms.kd.temperature=4, the largest value swept: values beyond it may be better."
    ]
    run = make_run(accuracies | {"distilled": [0.7, 0.8, 0.75]}, lanes=True, stages=stages, sweep=sweep)
    assert advice.advise(run) == ["distilled is best at terms.kd.temperature=2, within those swept, 1 to 4."]


def test_calibration_is_described_with_its_side():
    rows = [{"network": "teacher", "accuracy": 0.9, "ece": 0.12}]
    label = np.array([1, 1, 1, 1, -1])
    arrays = {"label": label, "prediction/teacher": np.array([1, 1, 1, 0, 1])}

    def describe(confidence, **change):
        predictions = arrays | {"confidence/teacher": np.array([*confidence, 0.0])} if confidence else {}
        run = Finished(**{**vars(make_run({}, predictions=predictions)), "rows": [rows[0] | change]})
        [sentence] = advice.advise(run)
        return sentence

    start, end = "teacher is not calibrated: its expected calibration error is 0.1200", " Another temperature of the"
    assert describe([]).startswith(f"{start}.{end}")
    sides = ["it is overconfident (mean confidence 0.9500", "its probabilities are too flat (mean confidence 0.5000"]
    for confidence, side in zip([0.95, 0.5], sides, strict=True):
        assert describe([confidence] * 4).startswith(f"{start}, and {side}, accuracy 0.7500).{end}")
    assert describe([0.76] * 4).startswith(f"{start}.{end}")
    assert "is calibrated" in describe([], ece=0.01)


def test_time_is_described_where_enough_of_it_was_measured(tmp_path):
    lines = [
        {"step": n * 50, "data_wait": wait, "examples_per_second": 64.0} for n, wait in enumerate([0.0] + [0.4] * 3)
    ]
    seconds = {"teacher": 300.0, "distil": 90.0, "evaluate": 10.0}
    run = make_run({}, stages={"distil": lines}, seconds=seconds)
    run.config["stages"] = {name: {"batch": 16} for name in seconds}
    time, wait = advice.advise(run)
    assert time == "The stages took 7 min: teacher 75%, distil 22%."
    assert wait == "Stage distil waited for data 40% of its time."
    for few in (lines[:3], [line | {"examples_per_second": 640.0} for line in lines]):
        assert advice.advise(Finished(**{**vars(run), "stages": {"distil": few}})) == [time]
    (tmp_path / "config.json").write_text(json.dumps(run.config))
    for name, spent in seconds.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "done.json").write_text(json.dumps({"seconds": spent}))
    assert advice.read(tmp_path, [], {}, {}).seconds == seconds
    (tmp_path / "distil" / "done.json").write_text(json.dumps({"seconds": 90.0, "resumed": True}))
    assert advice.read(tmp_path, [], {}, {}).seconds == {}


def test_files_that_do_not_suffice_have_no_sentence():
    assert advice.advise(Finished({}, {}, [], {}, {}, {})) == []
