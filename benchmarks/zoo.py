"""Trains every classification method on the digits from the same teacher, over seeds, and writes the table.

    python benchmarks/zoo.py --workdir runs/zoo --seeds 5 [--write docs/zoo.md] [--config.KEY=VALUE ...]

Each seed is the ordinary command with `configs/digits/zoo.py:all` in a process of its own; a seed that is done is
not run again. The table has mean and standard deviation (n - 1) over seeds of the last step's weights on the test
split, the gain over the control with its standard error from the seeds' pairs, and what each method sees.
"""

import argparse
import importlib
import math
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
seeds = importlib.import_module("seeds")

from jaxdistill.config import registry  # noqa: E402

CONFIG = "configs/digits/zoo.py:all"

HEADER = """# Every classification method on the digits

{count} methods distil the same teacher ({teacher:,} parameters) into the same student ({student:,}), which sees all
1,077 training images and the labels of ten of each class. `alone` is the control: the same student on the same batches
without a teacher. Test split (360 images: one is 0.0028), weights of the last step, mean ± standard deviation over
{seeds} seeds; a seed draws its own teacher, labels and order. *Gain* is the mean difference to `alone` of the same
seed, with its standard error; one smaller than two of these is no gain, and is said to be none.

*Sees* tells what beside the task's term the student learns from: the methods that need labels see those of the hundred
labelled images alone. Weights were not tuned, so the table shows that a method trains and roughly what it does; it
ranks nothing that lies within the spread, and says nothing of other data. Made by

```bash
python benchmarks/zoo.py --workdir runs/zoo --seeds {seeds} --write docs/zoo.md
```

| method | accuracy | gain over `alone` | NLL (nats) | ECE | agreement | sees |
| --- | ---: | ---: | ---: | ---: | ---: | --- |
"""


def mean_and_spread(values: list[float]) -> str:
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def gain(values: list[float], control: list[float]) -> str:
    """Writes the mean paired difference and its standard error, and says where it is none."""
    differences = [a - b for a, b in zip(values, control, strict=True)]
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.4f}"
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    verdict = "" if mean > 2 * error else ", worse" if mean < -2 * error else ", none"
    return f"{mean:+.4f} ± {error:.4f}{verdict}"


def sees(name: str) -> str:
    if name in ("teacher", "alone"):
        return "all labels" if name == "teacher" else "100 labels"
    labelled = registry.find("method", name).needs_labels
    return "100 labelled images" if labelled else "all images"


def table(runs: list[list[dict]]) -> str:
    """Writes the rows: control and plain KD first, then the others by mean accuracy."""
    by_name = {rows[0]["network"]: rows for rows in zip(*runs, strict=True)}
    accuracy = {name: [row["accuracy"] for row in rows] for name, rows in by_name.items()}
    first = [name for name in ("teacher", "alone", "kd") if name in by_name]
    rest = sorted((name for name in by_name if name not in first), key=lambda name: -statistics.mean(accuracy[name]))
    lines = []
    for name in [*first, *rest]:
        rows = by_name[name]
        cells = [mean_and_spread([row[key] for row in rows]) for key in ("accuracy", "nll", "ece", "agreement")]
        won = gain(accuracy[name], accuracy["alone"]) if name != "alone" else ""
        lines.append(f"| `{name}` | {cells[0]} | {won} | {' | '.join(cells[1:])} | {sees(name)} |")
    sizes = {name: rows[0]["parameters"] for name, rows in by_name.items()}
    about = {"count": len(by_name) - 2, "teacher": sizes["teacher"], "student": sizes["alone"], "seeds": len(runs)}
    return HEADER.format(**about) + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--write", type=pathlib.Path)
    given, more = parser.parse_known_args()
    runs = [seeds.run(CONFIG, seed, given.workdir, more) for seed in range(given.seeds)]
    written = table(runs)
    if given.write:
        given.write.write_text(written)
    print(written)


if __name__ == "__main__":
    main()
