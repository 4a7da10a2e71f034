"""Cost of a distillation step by batch, teacher, number of teachers and vocabulary, as plots.

    python benchmarks/scaling.py [--what batch teacher teachers vocabulary] [--rounds 5] [--plots docs] \\
        [--write FILE.json]

Writes `scaling_WHAT.svg` for each. Time is the median of a training step on resident data, as in `residual_step.py`
and `transformer_step.py`. A second line is the time of the arithmetic alone at the speed that the largest point
reaches: a gap between the two is other cost.
"""

import argparse
import pathlib
import statistics
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import our_steps
import results
import timing
import transformer_step

from jaxdistill.report import figures
from jaxdistill.runtime import allocator
from jaxdistill.runtime.timing import time_interleaved

CONFIG = str(pathlib.Path(__file__).parent / "configs" / "residual.py")
CHUNKED, DENSE = "512 tokens at a time", "logits of all tokens"


def make_residual_steps(folder: pathlib.Path, mode: str, batch: int, *flags: str) -> Any:
    """Makes steps of residual networks with random weights."""
    path = our_steps.write_images(folder, 512)
    words = [f"--config.data.path={path}", f"--config.batch={batch}", *(f"--config.{flag}" for flag in flags)]
    return our_steps.Steps.of_stage(our_steps.build_stage(f"{CONFIG}:{mode}", "live", words), {})


def vary_batch(folder: pathlib.Path, largest: int) -> dict[str, dict[float, Any]]:
    sizes = [largest >> k for k in (3, 2, 1, 0)]
    return {"measured": {size: make_residual_steps(folder, "resnet20", size) for size in sizes}}


def vary_teacher(folder: pathlib.Path, largest: int) -> dict[str, dict[float, Any]]:
    depths = (8, 20, 32, 56)
    steps = [
        make_residual_steps(folder, "resnet20", largest // 4, f"networks.teacher.depth={depth}") for depth in depths
    ]
    return {"measured": {point.flops() / (largest // 4) / 1e9: point for point in steps}}


def vary_teachers(folder: pathlib.Path, largest: int) -> dict[str, dict[float, Any]]:
    counts = (1, 2, 4)
    return {"measured": {count: make_residual_steps(folder, f"teachers{count}", largest // 4) for count in counts}}


def vary_vocabulary(folder: pathlib.Path, largest: int) -> dict[str, dict[float, Any]]:
    shape = {"kind": "decoder", "layers": [2, 1], "width": 128, "heads": 4, "hidden": 512, "length": 128, "batch": 8}
    steps: dict[str, dict[float, Any]] = {DENSE: {}, CHUNKED: {}}
    for vocabulary in (1024, 8192, 16_384, 32_768):
        given = argparse.Namespace(**shape, vocabulary=vocabulary, dispatch=1)
        texts = transformer_step.Texts(16, given.batch, given.length, vocabulary)
        steps[DENSE][vocabulary] = transformer_step.make_steps(given, texts, {})
        steps[CHUNKED][vocabulary] = transformer_step.make_steps(given, texts, {}, chunk=512)
    return steps


WHAT: dict[str, tuple[Callable, str]] = {
    "batch": (vary_batch, "batch, ResNet-20 -> ResNet-8"),
    "teacher": (vary_teacher, "GFLOP an image, ResNet-8 to -56 -> ResNet-8"),
    "teachers": (vary_teachers, "teachers, each a ResNet-20"),
    "vocabulary": (vary_vocabulary, "tokens of the vocabulary"),
}


def measure(steps: Mapping[str, Mapping[float, Any]], rounds: int) -> list[dict[str, Any]]:
    """Times every point of every line; returns a row for each. FLOPs are those of the first line: one count for all."""
    points = {(line, x): point for line, of_line in steps.items() for x, point in of_line.items()}
    calls = {f"{line}, {x:g}": (lambda point=point: point.run(2)) for (line, x), point in points.items()}
    seconds = time_interleaved(calls, rounds)
    rows, plain = [], next(iter(steps.values()))
    for (line, x), taken in zip(points, seconds.values(), strict=True):
        median, flops = statistics.median(taken) / 2, plain[x].flops()
        rows.append({"name": line, "at": x, "ms": 1e3 * median, "GFLOP": flops / 1e9, "GFLOP/s": flops / median / 1e9})
    return rows


def draw(rows: list[dict[str, Any]], axis: str, x_title: str) -> str:
    """Draws time over the varied axis, and the part of the arithmetic."""
    lines = {}
    for name in dict.fromkeys(row["name"] for row in rows):
        points = [row for row in rows if row["name"] == name]
        lines[name] = ([row["at"] for row in points], [row["ms"] for row in points])
    first = [row for row in rows if row["name"] == rows[0]["name"]]
    speed = first[-1]["GFLOP/s"]
    lines["arithmetic"] = ([row["at"] for row in first], [1e3 * row["GFLOP"] / speed for row in first])
    label = f"milliseconds of a step by {axis}"
    return figures.draw_curves(lines, label, x=x_title, y="ms a step", emphasis=rows[0]["name"])


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=5)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=[*WHAT])
    parser.add_argument("--largest", type=int, default=0, help="batch; 0 for 128, on a GPU 4096")
    parser.add_argument("--plots", type=pathlib.Path, default=pathlib.Path("docs"))
    given = parser.parse_args()
    largest = given.largest or (128 if jax.default_backend() == "cpu" else 4096)
    tables = {}
    given.plots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for what in given.what:
            make, axis = WHAT[what]
            rows = measure(make(pathlib.Path(folder), largest), given.rounds)
            tables[f"a step by {axis}"] = rows
            (given.plots / f"scaling_{what}.svg").write_text(draw(rows, what, axis))
    results.write(given.write, tables)


if __name__ == "__main__":
    main()
