"""Runs every mode of distillation on the digits over seeds, and writes the table with what the numbers say.

    python benchmarks/modes.py --workdir runs/modes --seeds 5 [--data_dir DIR] [--write docs/modes.md]

Each seed is the ordinary command with `configs/digits/modes.py:all` in a process of its own, and with `--data_dir`, the
folder that holds MNIST as TFDS prepares it, also `modes.py:mnist` and `configs/mnist/cross.py`; a seed that is done is
not run again. The table has mean and standard deviation (n - 1) over seeds, of the last step's weights on the test
split.
"""

import argparse
import importlib
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
seeds, told = map(importlib.import_module, ("seeds", "modes_told"))

DIGITS, MNIST, CROSS = "configs/digits/modes.py:all", "configs/digits/modes.py:mnist", "configs/mnist/cross.py"

HEADER = """# The modes of distillation, measured

Every mode is a choice of sources, terms and stages in a config, on the one step:
[`configs/digits/modes.py`](../configs/digits/modes.py) has a function for each. The digits of scikit-learn: a teacher
sees the labels of all 1,077 training images, a student sees all images and ten labels of each class, unless a row says
otherwise. Test split (360 images: one is 0.0028), weights of the last step, mean ± standard deviation over {seeds}
seeds; a seed draws the teachers, the order and the augmentation. *Agreement* is with `teacher` (the residual network
that has seen all labels). Nothing was tuned for a mode, so differences within the spread say nothing. Made by

```bash
python benchmarks/modes.py --workdir runs/modes --seeds {seeds} --data_dir DIR --write docs/modes.md
```
"""


def spread(values: list[float | None], digits: int = 4) -> str:
    if any(value is None for value in values):  # not finite
        return "-"
    more = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{more}"


def table(rows: dict[str, str], found: dict[str, list[dict]]) -> str:
    """Writes the rows that were measured; a section may name others, of a run that was not made."""
    lines = ["| network | parameters | accuracy | agreement | NLL (nats) |", "| --- | ---: | ---: | ---: | ---: |"]
    for name, what in rows.items():
        if name not in found:
            lines.append(f"| `{name}`: {what} | | not measured | | |")
            continue
        cells = [spread([row[key] for row in found[name]]) for key in ("accuracy", "agreement", "nll")]
        lines.append(f"| `{name}`: {what} | {found[name][0]['parameters']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page(found: dict[str, list[dict]], count: int) -> str:
    text = HEADER.format(seeds=count)
    for title, says, rows in told.SECTIONS:
        text += f"\n## {title}\n\n{says}\n\n{table(rows, found)}\n"
    return text


def by_name(runs: list[list[dict]], before: str = "") -> dict[str, list[dict]]:
    return {f"{before}{rows[0]['network']}": list(rows) for rows in zip(*runs, strict=True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--write", type=pathlib.Path)
    given, more = parser.parse_known_args()
    numbers = range(given.seeds)
    found = by_name([seeds.run(DIGITS, seed, given.workdir / "digits", more) for seed in numbers])
    if given.data_dir:
        mix = f"--config.stages.mnist.data.mix.mnist.data_dir={given.data_dir}"
        taught = by_name([seeds.run(MNIST, seed, given.workdir / "mnist", [mix, *more]) for seed in numbers])
        found["mnist"] = taught["mnist"]
        own = f"--config.data.data_dir={given.data_dir}"
        crossed = [seeds.run(CROSS, seed, given.workdir / "cross", [own, *more]) for seed in numbers]
        found |= by_name(crossed, "cross_")
    written = page(found, given.seeds)
    if given.write:
        given.write.write_text(written)
    print(written)


if __name__ == "__main__":
    main()
