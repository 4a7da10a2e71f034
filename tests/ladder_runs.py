"""The files of the finished runs of a ladder, written by hand."""

import itertools
import json

WIDTHS, EXAMPLES, STEPS = (10, 20, 40), (100, 200, 400), (50, 100, 200)


def loss_of(parameters, examples, steps, gap=0.0):
    """A law: for the control with a gap, whose part of the examples falls slower."""
    return 0.2 + 4.0 / parameters**0.7 + (2 + gap) / examples ** (0.6 - 0.1 * gap) + 9.0 / steps**0.9


def write_rung(folder, parameters, examples, steps, *, seeds=(0, 1), gap=0.5, **terms):
    """Writes a run whose lanes have seeds, and the losses of the law within a thousandth."""
    mlp = {"model": "mlp"}
    networks = {"student": {**mlp, "source": "trained"}, "teacher": {**mlp, "source": "frozen"}}
    kd = {"method": "kd", "student": "student", "teacher": "teacher", "temperature": 4.0} | terms
    train = {"seed": 0, "steps": steps, "batch": 20, "networks": networks, "sweep": {"seed": list(seeds)}}
    stages = {
        "distil": train | {"terms": {"kd": kd}},
        "alone": train | {"terms": {"task": {"method": "cross_entropy", "student": "student"}}},
        "evaluate": {
            "kind": "evaluate",
            "networks": {
                "distilled": {**mlp, "weights": "stage:distil#student"},
                "alone": {**mlp, "weights": "stage:alone#student"},
            },
        },
    }
    rows = []
    for (name, extra), seed in itertools.product((("distilled", 0.0), ("alone", gap)), seeds):
        loss = loss_of(parameters, examples, steps, extra) * (1 + 1e-3 * (seed - sum(seeds) / len(seeds)))
        rows.append({"network": name, "lane": seed, "parameters": parameters, "nll": loss, "accuracy": 0.5})
    lines = [
        {"stage": stage, "step": step, "epoch": float(f"{step * 20 / examples:.7g}")}
        for stage in ("distil", "alone")
        for step in (steps // 2, steps)
    ]
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"stages": stages}))
    (folder / "results.json").write_text(json.dumps([row for row in rows if row["lane"] == seeds[0]]))
    (folder / "lanes.json").write_text(json.dumps(rows))
    about = {"split": "test", "examples": 6, "unit": "example", "better": {"accuracy": "max", "nll": "min"}}
    (folder / "evaluation.json").write_text(json.dumps(about))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(folder)


def write_ladder(folder, *, widths=WIDTHS, examples=EXAMPLES, steps=STEPS, **options):
    """Writes the runs of all combinations in the folder of a sweep; returns it."""
    for number, place in enumerate(itertools.product(widths, examples, steps)):
        write_rung(folder / f"{number:03}", *place, **options)
    (folder / "sweep.json").write_text("{}")
    return str(folder)
