import base64
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image

from jaxdistill.errors import UserError
from jaxdistill.report import figures, quality, tables
from jaxdistill.report import write as report

ROWS = [
    {
        "network": "teacher",
        "parameters": 1_078_042,
        "flops": 24_300_000,
        "accuracy": 0.9,
        "nll": 0.1,
        "agreement": None,
    },
    {"network": "plain", "parameters": 78_042, "flops": 1_200_000, "accuracy": 0.75, "nll": 0.3, "agreement": 0.7},
    {"network": "pupil", "parameters": 78_042, "flops": 1_200_000, "accuracy": 0.875, "nll": 0.2, "agreement": 0.8},
]
PREDICTIONS = {"teacher": [0, 1, 2, 0, 1, 2], "plain": [0, 1, 2, 0, 2, 1], "pupil": [0, 1, 2, 1, 1, 2]}
SCORES = ("precision", "recall", "f1")
ALIKE = {"taps": ["stem", "pooled"], "reference_taps": ["pooled"], "cka": [[0.4375], [None]]}
FILES = ("evaluation.json", "predictions.npz", "metrics.jsonl", "config.json", "environment.json")


def metric_lines():
    for stage in ("teach", "distil"):
        for step in (50, 100, 150):
            line = {"stage": stage, "step": step, "epoch": 1.5, "examples_per_second": 5e3, "rate": 0.1 / step}
            yield line | {"loss": 3.0 / step, "grad_norm": 0.5, "task": 1.0 / step, "kd": 2.0 / step}
        if stage == "distil":  # the other stage is never evaluated
            yield {"stage": stage, "step": 150, "epoch": 3.0, "split": "validation", "student/accuracy": 0.875}
            yield {"stage": stage, "step": 150, "epoch": 3.0, "split": "test", "unseen/accuracy": 0.5, "unheard": 0.5}


def fill(workdir, name="pupil"):
    """Writes what a run leaves; `name` is that of the best student."""
    names = [*list(PREDICTIONS)[:2], name]
    predictions = dict(zip(names, PREDICTIONS.values(), strict=True))
    label = np.asarray([0, 1, 2, 0, 1, -1], np.int32)
    bins = {"edges": [0.0, 0.5, 1.0], "count": [0, 6], "confidence": [None, 0.8], "accuracy": [None, 0.75]}
    evaluation = {
        "reference": "teacher",
        "split": "test",
        "examples": 6,
        "classes": ["ant", "bee", "cat"],
        "confusion": {one: [[3, 0, 0], [1, 2, 0], [0, 0, 0]] for one in names},
        "reliability": dict.fromkeys(names, bins),
        "per_class": {one: {score: [0.5, 0.25, 1.0] for score in SCORES} | {"examples": [3, 2, 1]} for one in names},
        "pairs": [
            {"network": names[1], "reference": "teacher", "kl": 0.375, "copied_errors": None, "cka": ALIKE},
            {"network": name, "reference": names[1], "kl": 0.0625, "saliency": 0.75, "cka": ALIKE | {"taps": []}},
        ],
        "saliency": {"examples": 6, "left_out": ["forest"]},
    }
    arrays = {"label": label, "index": np.arange(10, 16, dtype=np.int32)}
    arrays |= {f"prediction/{one}": np.asarray(ids, np.int32) for one, ids in predictions.items()}
    arrays |= {f"confidence/{one}": np.full(6, 0.625, np.float32) for one in names}
    arrays |= {"sheet/index": np.asarray([10, 13, 15]), "sheet/image": np.zeros((3, 4, 4, 1), np.uint8)}
    maps = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((3, 4, 4), np.uint8)  # each is its place in the sheet
    arrays |= {f"saliency/{one}": 10 * place + maps for place, one in enumerate(names)}
    rows = [row | {"network": one} for row, one in zip(ROWS, names, strict=True)]
    workdir.mkdir(exist_ok=True)
    (workdir / "results.json").write_text(json.dumps(rows))
    (workdir / "evaluation.json").write_text(json.dumps(evaluation))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metric_lines()))
    (workdir / "config.json").write_text(json.dumps({"seed": 17, "note": "<&>"}))
    (workdir / "environment.json").write_text(json.dumps({"jax": "0.0.1"}))
    np.savez(workdir / "predictions.npz", **arrays)
    return workdir


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return report.write(fill(tmp_path_factory.mktemp("run"))).read_text()


def parsed(page):
    return ElementTree.fromstring(page)


def text_of(page):
    return " ".join(parsed(page).itertext())


def test_page_is_well_formed_and_has_every_figure(page):
    labels = [element.get("aria-label") for element in parsed(page).iter() if element.get("role") == "img"]
    assert len(labels) == len(set(labels)) == 6 + 3 + 3 + 1 + 1 + 1


def test_page_has_every_network_and_number(page):
    text = text_of(page)
    for row in ROWS:
        assert row["network"] in text
        for column, value in row.items():
            assert tables.number(column, value) in text
    for wanted in ("24.3 M", "task", "kd", "student", "teach", "distil", "bee", "17", "0.0.1", "<&>"):
        assert wanted in text


def test_page_asks_nobody_for_anything(page):
    assert not re.search(r"(src|href|action|data)\s*=\s*[\"']?\s*(https?:|//|file:)", page)
    assert not re.search(r"url\(\s*[\"']?(?!#|data:)", page)
    assert not re.search(r"<(script|link|iframe|object|embed)\b|@import", page)


def test_ids_of_the_figures_do_not_clash(page):
    ids = [element.get("id") for element in parsed(page).iter() if element.get("id")]
    assert len(ids) == len(set(ids)) > 0


def test_same_workdir_gives_the_same_page(page, tmp_path):
    once = report.write(fill(tmp_path / "run")).read_text()
    assert report.write(tmp_path / "run").read_text() == once
    assert once.split("<h2>", 1)[1] == page.split("<h2>", 1)[1]


def test_summary_compares_the_best_student_with_the_reference(page):
    said = "pupil reaches an accuracy of 0.8750 on 6 examples of the test split: 97.2% of the 0.9000 of teacher, "
    assert said + "with 7.2% of its parameters and 4.9% of its FLOPs." in text_of(page)


def test_best_students_leave_out_the_reference_and_columns_of_equals():
    assert quality.best_students(ROWS, "teacher") == {("pupil", "accuracy"), ("pupil", "nll"), ("pupil", "agreement")}


def test_sheet_shows_only_disagreement_and_tells_right_from_wrong(page):
    images = [element.get("alt") for element in parsed(page).iter("img")]
    assert [alt for alt in images if alt.startswith("example")] == ["example 13", "example 15"]
    cards = page[page.index('alt="example 13"') :].split("<figure>")
    assert re.findall(r'title="(\w+)">(.)</span> (\w+)', cards[0]) == [
        ("right", "✓", "ant"),
        ("right", "✓", "ant"),
        ("wrong", "✗", "bee"),
    ]
    assert "true: unlabelled" in cards[1]
    assert re.findall(r'title="(\w+)">(.)</span>', cards[1]) == [("unlabelled", "·")] * 3
    assert "2 of the 3 examples" in page


def test_where_each_network_looks_is_beside_the_image(page):
    for index, place in ((13, 1), (15, 2)):
        card = page[: page.index(f"<span>#{index}</span>")].split('class="looks"')[-1]
        assert re.findall(r'alt="([^"]+)"', card)[1:] == [f"saliency of {name}, {index}" for name in PREDICTIONS]
        shown = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r'base64,([^"]+)"', card)]
        assert [np.unique(image).tolist() for image in shown] == [[0], [place], [10 + place], [20 + place]]


def test_pairs_have_a_table_that_says_what_its_columns_are(page):
    section = page[page.index("<h2>Fidelity") : page.index("<h2>Where")]
    tables = section[section.index("<tbody>") : section.index("</tbody>")]
    lines = [re.findall(r"<t[hd][^>]*>([^<]*)<", line) for line in tables.split("</tr>")[:-1]]
    assert lines == [["plain : teacher", "0.3750", "-", "-"], ["pupil : plain", "0.0625", "-", "0.7500"]]
    text = text_of(page)
    assert "KL(reference || network) in nats" in text
    assert "the mean over 6 examples" in text
    assert "without saliency: forest." in text


def test_taps_are_drawn_for_the_pairs_that_have_them(page):
    figure = page[page.index('aria-label="CKA of plain : teacher"') :].split("</svg>")[0]
    assert re.findall(r">(\d\.\d\d)</text>", figure) == ["0.44"]
    assert "One of the two has no taps: pupil : plain." in text_of(page)


def test_scores_of_every_class_are_in_a_table(page):
    section = page[page.index("<h2>Classes") : page.index("<h2>Calibration")]
    tables = section[section.index("<tbody>") : section.index("</tbody>")]
    assert re.findall(r"<t[hd][^>]*>([^<]*)<", tables.split("</tr>")[1]) == ["bee", "2", *["0.2500"] * 9]


def test_agreement_is_the_share_of_equal_predictions(page):
    figure = page[page.index('aria-label="Agreement of the networks"') :].split("</svg>")[0]
    shares = re.findall(r">(\d\.\d{4})</text>", figure)
    assert shares == ["1.0000", "0.6667", "0.8333", "0.6667", "1.0000", "0.5000", "0.8333", "0.5000", "1.0000"]


def test_a_stage_without_evaluation_says_so(page):
    assert page.count("This stage logged no validation accuracy.") == 1


def test_evaluations_of_other_splits_are_not_drawn(page):
    assert "unseen" not in text_of(page)
    assert "unheard" not in text_of(page)


@pytest.mark.parametrize("missing", [*[(name,) for name in FILES], FILES])
def test_missing_parts_leave_a_sentence(tmp_path, missing):
    workdir = fill(tmp_path / "run")
    for name in missing:
        (workdir / name).unlink()
    text = text_of(report.write(workdir).read_text())
    said = {
        "evaluation.json": "No two networks were compared",
        "predictions.npz": "no predictions of two networks",
        "metrics.jsonl": "there are no curves",
        "config.json": "config.json is missing",
        "environment.json": "environment.json is missing",
    }
    for name, sentence in said.items():
        assert (sentence in text) == (name in missing)


def test_no_images_and_no_reference_leave_sentences(tmp_path):
    workdir = fill(tmp_path / "run")
    evaluation = json.loads((workdir / "evaluation.json").read_text()) | {"reference": None}
    (workdir / "evaluation.json").write_text(json.dumps(evaluation))
    with np.load(workdir / "predictions.npz") as held:
        empty = {"sheet/index": held["sheet/index"][:0], "sheet/image": held["sheet/image"][:0]}
        np.savez(workdir / "predictions.npz", **(dict(held) | empty))
    text = text_of(report.write(workdir).read_text())
    assert "There are no images to show" in text
    assert "names no reference network" in text
    assert "teacher reaches an accuracy of 0.9000 on 6 examples of the test split, the best of 3." in text


def test_names_are_escaped_everywhere(tmp_path):
    name = "<script>alert('$\\no_{$')</script>\"&amp;"
    page = report.write(fill(tmp_path / "<b>", name=name)).read_text()
    assert "<script" not in page
    assert "<b>" not in page
    assert name in text_of(page)


def test_numbers_that_are_not_finite_are_shown(tmp_path):
    workdir = fill(tmp_path / "run")
    rows = json.loads((workdir / "results.json").read_text())
    rows[1] |= {"accuracy": float("nan"), "nll": float("inf")}
    (workdir / "results.json").write_text(json.dumps(rows))
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "distil", "step": 200, "rate": 0.1, "loss": NaN, "kd": Infinity}\n')
    text = text_of(report.write(workdir).read_text())
    assert "pupil reaches an accuracy of 0.8750" in text
    assert "nan" in text


def test_of_repeated_steps_the_later_counts_and_a_torn_line_is_passed_over(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [{"stage": "a", "step": step, "loss": loss} for step, loss in ((1, 5.0), (2, 4.0), (2, 3.0))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"stage": "a", "st')
    assert [line["loss"] for line in report.read_lines(path)["a"]] == [5.0, 3.0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", "{"),
        ("results.json", '{"a": 1}'),
        ("results.json", '[{"net": 1}]'),
        ("evaluation.json", "[1]"),
        ("metrics.jsonl", "[]\n"),
        ("predictions.npz", ""),
        ("predictions.npz", "no zip"),
    ],
)
def test_a_foreign_file_is_a_mistake_of_the_user(tmp_path, name, content):
    workdir = fill(tmp_path / "run")
    (workdir / name).write_text(content)
    with pytest.raises(UserError, match=name):
        report.write(workdir)


def test_a_missing_workdir_is_told_without_a_traceback(tmp_path, capsys):
    assert report.main([str(tmp_path / "nowhere")]) == 2
    told = capsys.readouterr().err
    assert "results.json is missing" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_report_is_made_again_from_the_command_line(page, tmp_path):
    workdir = fill(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "jaxdistill.report.__main__", str(workdir)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(workdir / "report.html")
    assert (workdir / "report.html").read_text().split("<h2>", 1)[1] == page.split("<h2>", 1)[1]


def test_table_is_aligned():
    assert tables.plain(ROWS[:2]).splitlines() == [
        "network  parameters   FLOPs  accuracy     nll  agreement",
        "teacher   1,078,042  24.3 M    0.9000  0.1000          -",
        "plain        78,042   1.2 M    0.7500  0.3000     0.7000",
    ]


def test_markdown_escapes_what_would_end_a_cell():
    assert tables.markdown([{"network": "a|b", "parameters": 1, "flops": 999, "f1": 0.5}]).splitlines() == [
        "| network | parameters | FLOPs | f1 |",
        "| :-- | --: | --: | --: |",
        "| a\\|b | 1 | 999 | 0.5000 |",
    ]


@pytest.mark.parametrize(
    ("flops", "text"),
    [
        (1_234_567, "1.2 M"),
        (999_990, "1.0 M"),
        (41_500_000_000, "41.5 G"),
        (999, "999"),
        (512.0, "512"),
        (2048.0, "2.0 k"),
    ],
)
def test_flops_have_a_prefix(flops, text):
    assert tables.number("flops", flops) == text


def test_png_repeats_each_pixel():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    shown = np.asarray(Image.open(io.BytesIO(figures.png(image, side=6))))
    np.testing.assert_array_equal(shown, np.kron(image, np.ones((3, 3, 1), np.uint8)))


def test_many_classes_are_drawn_without_counts():
    few, many = (figures.confusion(np.eye(n, dtype=int) * 99, range(n), "net", "few") for n in (20, 21))
    assert few.count(">99</text>") == 20
    assert ">99</text>" not in many


def test_curves_of_a_single_point_show_a_mark():
    assert "<use" in figures.curves({"a": ([1], [2.0])}, "single").split('clip-path="')[-1]


def test_curves_over_magnitudes_have_a_logarithmic_axis_with_plain_numbers():
    figure = figures.curves({"a": ([1, 2, 3], [1000.0, float("nan"), 1.0])}, "wide")
    assert [tick for tick in ("1", "10", "100", "1000") if f">{tick}</text>" in figure] == ["1", "10", "100", "1000"]
