"""The files of small finished runs, written by hand."""

import json

import numpy as np

LABEL = np.asarray([0, 1, 2, 0, 1, -1], np.int32)
BETTER = {"accuracy": "max", "nll": "min", "agreement": "max"}


def write_run(folder, *, seed=0, temperature=4.0, accuracy=0.75, right=3, sweep=None, lanes=None, **evaluation):
    """Writes a run in which `distilled` has `accuracy` and predicts the first `right` of five labelled examples."""
    train = {"seed": seed, "networks": {"student": {"model": "mlp"}}, "steps": 4}
    train |= {"terms": {"kd": {"method": "kd", "student": "student", "temperature": temperature, "teacher": "student"}}}
    stages = {"distil": train | ({"sweep": sweep} if sweep else {}), "evaluate": {"kind": "evaluate", "seed": seed}}
    stages["evaluate"]["networks"] = {"distilled": {"model": "mlp", "source": "frozen"}}
    rows = [
        {"network": "alone", "parameters": 9, "bytes": 36, "flops": 8, "accuracy": 0.5, "nll": 1.0},
        {"network": "distilled", "parameters": 9, "bytes": 40, "flops": 8, "accuracy": accuracy, "nll": 0.5},
    ]
    about = {"split": "test", "examples": 6, "classes": ["a", "b", "c"], "unit": "example", "better": BETTER}
    about["pairs"] = [{"network": "distilled", "reference": "alone"}]
    predicted = np.where(np.arange(6) < right, LABEL, 2 - LABEL + (LABEL == 1))
    arrays = {"label": LABEL, "index": np.arange(6), "prediction/distilled": predicted}
    folder.mkdir(parents=True)
    keys = [""] if lanes is None else ["", *(f"{lane}/" for lane in range(len(lanes)))]
    lines = [{"stage": "distil", "step": step, **{f"{key}loss": 1.0 / step for key in keys}} for step in (2, 4)]
    rates = [{f"{key}student/accuracy": 0.1 * line["step"] + seed for key in keys} for line in lines]
    lines += [line | {"split": "validation"} | rate for line, rate in zip(lines, rates, strict=True)]
    (folder / "config.json").write_text(json.dumps({"stages": stages}))
    (folder / "results.json").write_text(json.dumps(rows))
    if lanes is not None:
        of_lanes = [rows[1] | {"lane": lane, "accuracy": value} for lane, value in enumerate(lanes)]
        (folder / "lanes.json").write_text(json.dumps([rows[0] | {"lane": None}, *of_lanes]))
    (folder / "evaluation.json").write_text(json.dumps(about | evaluation))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    launch = {"commit": "abcdef0123456", "project": {"commit": "123456789abc", "diff": "x.diff"}, "time": "now"}
    (folder / "environment.json").write_text(json.dumps([launch | {"devices": {"kind": "cpu", "number": 1}}]))
    arrays |= {"prediction/alone": np.zeros(6, np.int32)}
    for name in ("alone", "distilled"):
        right = np.where(LABEL < 0, np.nan, arrays[f"prediction/{name}"] == LABEL)
        arrays[f"score/accuracy/{name}"] = right.astype(np.float32)
    np.savez(folder / "predictions.npz", **arrays)
    return str(folder)
