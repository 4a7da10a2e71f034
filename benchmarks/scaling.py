"""How the cost of a distillation step grows: with batch, teacher, number of teachers, and vocabulary; as plots.

    python benchmarks/scaling.py [--what batch teacher teachers vocabulary] [--rounds 5] [--plots docs] \\
        [--write FILE.json]

Writes `scaling_WHAT.svg` for each. Time is the median of a training step (as `residual_step.py` and
`transformer_step.py` have it, resident data), and beside it stands what the arithmetic alone would take at the
speed that the largest of the points reaches: where the two part, something else is paid for.
"""

import argparse
import importlib
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import jax

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "configs")]
timing, our_steps, residual, transformer_step = (
    importlib.import_module(name) for name in ("timing", "our_steps", "residual", "transformer_step")
)

from jaxdistill.report import figures  # noqa: E402
from jaxdistill.runtime import allocator  # noqa: E402

CONFIG = str(HERE / "configs" / "residual.py")
CHUNKED, DENSE = "512 tokens at a time", "logits of all tokens"


def residual_steps(folder: pathlib.Path, mode: str, batch: int, *flags: str) -> Any:
    """Steps of residual networks with random weights."""
    path = our_steps.images(folder, 512)
    words = [f"--config.data.path={path}", f"--config.batch={batch}", *(f"--config.{flag}" for flag in flags)]
    return our_steps.Steps.of_stage(our_steps.stage(f"{CONFIG}:{mode}", "live", words), {})


def by_batch(folder: pathlib.Path, largest: int) -> dict[str, dict[float, Any]]:
    sizes = [largest >> k for k in (3, 2, 1, 0)]
    return {"measured": {size: residual_steps(folder, "resnet20", size) for size in sizes}}


def by_teacher(folder: pathlib.Path, largest: int) -> dict[str, dict[float, Any]]:
    depths = (8, 20, 32, 56)
    steps = [residual_steps(folder, "resnet20", largest // 4, f"networks.teacher.depth={depth}") for depth in depths]
    return {"measured": {one.flops() / (largest // 4) / 1e9: one for one in steps}}


def by_teachers(folder: pathlib.Path, largest: int) -> dict[str, dict[float, Any]]:
    counts = (1, 2, 4)
    return {"measured": {count: residual_steps(folder, f"teachers{count}", largest // 4) for count in counts}}


def by_vocabulary(folder: pathlib.Path, largest: int) -> dict[str, dict[float, Any]]:
    shape = {"kind": "decoder", "layers": [2, 1], "width": 128, "heads": 4, "hidden": 512, "length": 128, "batch": 8}
    found: dict[str, dict[float, Any]] = {DENSE: {}, CHUNKED: {}}
    for vocabulary in (1024, 8192, 16_384, 32_768):
        given = argparse.Namespace(**shape, vocabulary=vocabulary, dispatch=1)
        texts = transformer_step.Texts(16, given.batch, given.length, vocabulary)
        found[DENSE][vocabulary] = transformer_step.ours(given, texts, {})
        found[CHUNKED][vocabulary] = transformer_step.ours(given, texts, {}, chunk=512)
    return found


WHAT: dict[str, tuple[Callable, str]] = {
    "batch": (by_batch, "batch, ResNet-20 -> ResNet-8"),
    "teacher": (by_teacher, "GFLOP an image, ResNet-8 to -56 -> ResNet-8"),
    "teachers": (by_teachers, "teachers, each a ResNet-20"),
    "vocabulary": (by_vocabulary, "tokens of the vocabulary"),
}


def measured(made: Mapping[str, Mapping[float, Any]], rounds: int) -> list[dict[str, Any]]:
    """Times every point of every line; returns a row each. FLOPs are those of the first line: one count for all."""
    points = {(line, x): one for line, own in made.items() for x, one in own.items()}
    calls = {f"{line}, {x:g}": (lambda one=one: one.run(2)) for (line, x), one in points.items()}
    seconds = timing.interleaved(calls, rounds)
    rows, plain = [], next(iter(made.values()))
    for (line, x), own in zip(points, seconds.values(), strict=True):
        median, flops = statistics.median(own) / 2, plain[x].flops()
        rows.append({"what": line, "at": x, "ms": 1e3 * median, "GFLOP": flops / 1e9, "GFLOP/s": flops / median / 1e9})
    return rows


def drawn(rows: list[dict[str, Any]], what: str, axis: str) -> str:
    """Draws time over what was varied, and the arithmetic's share of it."""
    lines = {}
    for name in dict.fromkeys(row["what"] for row in rows):
        own = [row for row in rows if row["what"] == name]
        lines[name] = ([row["at"] for row in own], [row["ms"] for row in own])
    first = [row for row in rows if row["what"] == rows[0]["what"]]
    speed = first[-1]["GFLOP/s"]
    lines["arithmetic"] = ([row["at"] for row in first], [1e3 * row["GFLOP"] / speed for row in first])
    return figures.draw_curves(
        lines, f"milliseconds of a step by {what}", x=axis, y="ms a step", emphasis=rows[0]["what"]
    )


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.parser(__doc__, rounds=5)
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
            rows = measured(make(pathlib.Path(folder), largest), given.rounds)
            tables[f"a step by {axis}"] = rows
            (given.plots / f"scaling_{what}.svg").write_text(drawn(rows, what, axis))
    timing.write(given.write, tables)


if __name__ == "__main__":
    main()
