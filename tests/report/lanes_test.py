"""The report compares lanes: groups of those that differ in seed alone, where each ended, its best."""

import json

import pytest

from jaxdistill.report import lanes
from jaxdistill.report import write as report
from report_files import BETTER, cells, render

CONFIG = {
    "sweep": {},
    "stages": {"distil": {"sweep": {"seed": [0, 1, 0, 1], "learning_rate": {"init": [0.1, 0.1, 0.2, 0.2]}}}},
}
LOSSES = ((4.0, 2.0), (3.0, 1.0), (2.0, 5.0), (1.0, 4.0))
NLLS = ((0.5, 0.75), (0.5, 0.25), (1.5, 1.0), (2.5, 3.0))


def lines():
    for row, step in enumerate((1, 2)):
        own = {f"{lane}/loss": losses[row] for lane, losses in enumerate(LOSSES)}
        yield {"stage": "distil", "step": step, "loss": 2.0} | own
        own = {f"{lane}/student/nll": values[row] for lane, values in enumerate(NLLS)}
        own |= {f"{lane}/student/accuracy": 0.5 + lane / 10 for lane in range(4)}
        line = {"stage": "distil", "step": step, "split": "validation", "student/nll": 1.0, "student/accuracy": 0.65}
        yield line | own


def rows():
    return [
        {"network": name, "lane": lane, "parameters": 7, "flops": 70, "accuracy": accuracy}
        for name, each in {"student": (0.2, 0.4, 0.5, 0.9), "teacher": (1.0, 1.0, 1.0, None)}.items()
        for lane, accuracy in enumerate(each)
    ]


@pytest.fixture(scope="module")
def section():
    return render(
        lanes.compare(
            rows(), {"distil": list(lines()), "alone": [{"step": 1, "loss": 1.0}]}, CONFIG, {"better": BETTER}
        )
    )


def test_an_evaluation_has_a_row_for_each_group_of_seeds(section):
    found = cells(section)
    assert ["network", "learning_rate.init", "lanes", "accuracy"] in found
    assert ["student", "0.1", "2", "0.3000 ± 0.1414"] in found
    assert ["student", "0.2", "2", "0.7000 ± 0.2828"] in found
    assert ["teacher", "0.2", "2", "-"] in found
    assert ["student, 3: seed 1, init 0.2", "0.9000"] in found


def test_lanes_of_several_evaluations_are_summarised_apart(tmp_path):
    parts = [[row | {"evaluation": name, "split": "test"} for row in rows()] for name in ("clean", "noisy")]
    for row in parts[1]:
        row["accuracy"] = 0.0
    (tmp_path / "lanes.json").write_text(json.dumps([row for part in parts for row in part]))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines()))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    table = report.read_summary(tmp_path)
    assert [row for row in table.rows if row[0].startswith("student")] == [
        ["student (learning_rate.init 0.1)", "clean", "test", "7", "70", "0.3000 ± 0.1414"],
        ["student (learning_rate.init 0.2)", "clean", "test", "7", "70", "0.7000 ± 0.2828"],
        ["student (learning_rate.init 0.1)", "noisy", "test", "7", "70", "0.0000 ± 0.0000"],
        ["student (learning_rate.init 0.2)", "noisy", "test", "7", "70", "0.0000 ± 0.0000"],
    ]


def test_every_lane_has_its_end_and_its_best(section):
    found = cells(section)
    assert found[0][0] == "network"
    head = next(line for line in found if line[0] == "lane")
    assert head[:4] == ["lane", "seed", "learning_rate.init", "loss"]
    first = dict(zip(head, next(line for line in found if line[0] == "1"), strict=True))
    assert (first["loss"], first["student/nll"], first["best student/nll"]) == ("1.0000", "0.2500", "0.2500")
    second = dict(zip(head, next(line for line in found if line[0] == "0"), strict=True))
    assert (second["student/nll"], second["best student/nll"]) == ("0.7500", "0.5000")
    group = [dict(zip(head, line, strict=True)) for line in found if line[0] == "mean ± sd of 2"]
    assert [line["learning_rate.init"] for line in group] == ["0.1", "0.2"]
    assert group[0]["loss"] == "1.5000 ± 0.7071"


ROUTE = {"better": BETTER, "route": {"column": "language", "examples": {"de": 30, "fr": 1200}}}


def test_parts_by_a_column_have_tables_of_their_own():
    def split_up(line):
        accuracies = {key: value for key, value in line.items() if key.endswith("/accuracy")}
        ends = {"de": 0.5, "fr": -0.25 if line["step"] == 2 else 0.0}
        return line | {f"{key}:{part}": x + end for key, x in accuracies.items() for part, end in ends.items()}

    evaluated = [
        row | {"accuracy:de": row["accuracy"] + 0.5, "accuracy:fr": row["accuracy"]}
        for row in rows()
        if row["network"] == "student"
    ]
    found = cells(render(lanes.compare(evaluated, {"distil": [*map(split_up, lines())]}, CONFIG, ROUTE)))
    assert found[0] == ["network", "learning_rate.init", "lanes", "accuracy"]
    at = found.index(["network", "learning_rate.init", "lanes", "language", "examples", "accuracy"])
    assert found[at + 1 : at + 5] == [
        ["student", "0.1", "2", "de", "30", "0.8000 ± 0.1414"],
        ["student", "0.1", "2", "fr", "1,200", "0.3000 ± 0.1414"],
        ["student", "0.2", "2", "de", "30", "1.2000 ± 0.2828"],
        ["student", "0.2", "2", "fr", "1,200", "0.7000 ± 0.2828"],
    ]
    at = found.index(["network, lane", "language", "examples", "accuracy"])
    assert found[at + 2] == ["student, 0: seed 0, init 0.1", "fr", "1,200", "0.2000"]
    heads = [line for line in found if line[0] == "lane"]
    assert [len(head) for head in heads] == [8, 6]
    assert heads[1] == ["lane", "seed", "learning_rate.init", "language", "student/accuracy", "best student/accuracy"]
    assert found[found.index(heads[1]) + 2] == ["0", "0", "0.1", "fr", "0.2500", "0.5000"]


def test_curves_of_all_lanes_are_in_one_plot(section):
    assert section.count("<svg") == 2
    assert "distil: validation student/accuracy of every lane" in section
    assert all(f"{lane}: seed {lane % 2}, init 0.{1 + lane // 2}" in section for lane in range(4))
    assert "<h3>alone</h3>" not in section


def test_a_run_without_lanes_has_no_section():
    assert lanes.compare([], {"0": [{"step": 1, "loss": 1.0, "0/accuracy": 0.5}]}, None, {}) == []


def test_the_table_has_a_row_for_each_network():
    found = lanes.summarize(rows()[:4], {}, None)
    assert found == [{"network": "student", "parameters": 7, "flops": 70, "accuracy": "0.5000 ± 0.2944"}]


def test_the_terminal_has_a_row_for_each_group_and_one_for_a_shared_network():
    shared = {"network": "teacher", "lane": None, "parameters": 9, "flops": 90, "accuracy": 0.75}
    found = lanes.summarize([shared, *rows()[:4]], {"distil": list(lines())}, CONFIG)
    pairs = [(row["network"], row["accuracy"]) for row in found]
    groups = [
        ("student (learning_rate.init 0.1)", "0.3000 ± 0.1414"),
        ("student (learning_rate.init 0.2)", "0.7000 ± 0.2828"),
    ]
    assert pairs == [("teacher", "0.7500"), *groups]
    page = cells(render(lanes.compare([shared, *rows()[:4]], {"distil": list(lines())}, CONFIG, {"better": BETTER})))
    assert ["teacher", "", "1", "0.7500"] in page


def test_the_page_has_the_section_and_other_plots_the_means_alone(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps([{"network": "student", "parameters": 7, "accuracy": 0.5}]))
    (tmp_path / "lanes.json").write_text(json.dumps(rows()))
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines()))
    page = report.write_report(tmp_path).read_text()
    assert "<h2>Lanes</h2>" in page
    whole = (tmp_path / "accuracy.svg").read_text()
    assert "distil" in whole
    assert "0/student" not in whole
    (tmp_path / "lanes.json").write_text("{}")
    assert report.main([str(tmp_path)]) == 0  # nothing in it
    (tmp_path / "lanes.json").write_text("[1]")
    assert report.main([str(tmp_path)]) == 2
