"""jaxdistill compare RUN RUN ... [--out FOLDER]

    RUN     the folder of a finished run; of a run in lanes, each lane counts. Runs that differ in their seeds alone are
            one row, with mean and spread; all others are compared with the first
    --out   the folder of the comparison; `comparison` by default

Prints and writes what differs in the configs, the results of each network, and differences with standard errors, over
seeds and over examples; the page has curves and quality over cost besides.
"""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from jaxdistill.compare import page
from jaxdistill.compare.differences import Difference, compare_experiments, compare_networks
from jaxdistill.compare.experiments import Experiment, group_members, list_settings
from jaxdistill.compare.finished_run import FinishedRun, read_runs
from jaxdistill.report.html import Block, Figures, Note, Section
from jaxdistill.report.tables import Table
from jaxdistill.runtime import files
from jaxdistill.runtime.arguments import Arguments, with_help, writing

SPREAD = "Mean ± standard deviation over seeds (n - 1). ★ marks the best of a network's rows."
PAIRED = (
    "Means of paired differences ± their standard errors, the standard deviation of the differences (n - 1) over the"
    " root of their number. A difference of less than two standard errors may be chance."
)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: as named.
        experiments: their members, grouped by settings without seeds.
        differences: of each experiment to the first.
        within: of pairs of networks within each experiment, by its name.
    """

    runs: Sequence[FinishedRun]
    experiments: Sequence[Experiment]
    differences: Sequence[Difference]
    within: dict[str, list[Difference]]

    @property
    def better(self) -> dict[str, str]:
        """The better end of each metric."""
        return {name: end for run in self.runs for name, end in run.evaluation.get("better", {}).items()}

    def summarize(self) -> str:
        """Returns a sentence on the runs and their settings."""
        settings = list_settings([experiment.members for experiment in self.experiments])
        seeds = [len(experiment.members) for experiment in self.experiments]
        if len(self.experiments) == 1:
            return f"{seeds[0]} repetitions of one config, which differ in their seeds alone."
        if not settings:
            return f"{len(seeds)} runs of one config and the same seeds: their differences are of code and machine."
        counts = f"{min(seeds)}" if len({*seeds}) == 1 else f"{min(seeds)} to {max(seeds)}"
        shown = ", ".join(path for path, _ in settings[:4]) + " and more" * (len(settings) > 4)
        return f"{len(seeds)} experiments, {counts} seeds of each, which differ in {shown}."

    def tables(self) -> dict[str, Table]:
        """Returns the tables of the comparison by title."""
        tables = {
            "Runs": page.describe_runs(self.runs),
            "Configs": page.describe_settings(self.experiments),
            "Results": page.describe_results(self.experiments, self.better),
            "Differences between runs": page.describe_differences({"": self.differences}),
            "Differences between networks": page.describe_differences(self.within),
        }
        return {title: table for title, table in tables.items() if table is not None}

    def records(self) -> dict[str, Any]:
        """Returns the numbers, for `comparison.json`."""
        settings = list_settings([experiment.members for experiment in self.experiments])
        names = [experiment.name for experiment in self.experiments]
        rows = [
            {"experiment": experiment.name, "run": member.run.name, "seed": member.seed, **row}
            for experiment in self.experiments
            for member in experiment.members
            for row in member.rows
        ]
        return {
            "runs": [str(run.workdir.resolve()) for run in self.runs],
            "settings": [{"setting": path} | dict(zip(names, values, strict=True)) for path, values in settings],
            "results": rows,
            "differences": [_record(item) for item in self.differences],
            "differences_between_networks": [
                {"experiment": name} | _record(item) for name, items in self.within.items() for item in items
            ],
        }


def _record(item: Difference) -> dict[str, Any]:
    network, evaluation = item.place
    return {
        "network": network,
        **({"evaluation": evaluation} if evaluation else {}),
        "side": item.side,
        "base": item.base,
        "metric": item.metric,
        "over": item.over,
        "pairs": len(item.values),
        "mean": item.mean,
        "standard_error": item.error,
    }


def compare(texts: Sequence[str]) -> Comparison:
    """Compares finished runs.

    Args:
        texts: their folders, the base first.

    Raises:
        UserError: for folders that are no finished runs, runs of different tasks, and fewer than two.
    """
    runs = read_runs(list(texts))
    experiments = group_members(runs)
    metrics = list(dict.fromkeys(name for run in runs for row in run.rows for name in row))
    better = {name for run in runs for name in run.evaluation.get("better", {})}
    metrics = [name for name in metrics if name in better]
    pairs = [pair for run in runs for pair in run.pairs]
    differences = [item for second in experiments[1:] for item in compare_experiments(experiments[0], second, metrics)]
    within = {
        experiment.name: list(compare_networks(experiment, list(dict.fromkeys(pairs)), metrics))
        for experiment in experiments
    }
    return Comparison(runs, experiments, differences, within)


def write_comparison(comparison: Comparison, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes the page, the tables as Markdown, the numbers and the figures of quality over cost; returns the files."""
    tables, summary = comparison.tables(), comparison.summarize()
    pareto = page.draw_pareto(comparison.experiments, comparison.runs[0].evaluation)
    sections = [
        Section("Results", [tables["Results"], Note(SPREAD)]),
        Section("Configs", [tables.get("Configs") or Note("No setting differs but seeds."), tables["Runs"]]),
        Section("Differences between runs", _explain(tables.get("Differences between runs"))),
        Section("Differences between networks", _explain(tables.get("Differences between networks"))),
        Section("Training", page.draw_curves(comparison.experiments)),
        Section("Cost", [Figures(list(pareto.values()))] if pareto else []),
    ]
    text = "\n\n".join([summary, *(f"## {title}\n\n{table.to_markdown()}" for title, table in tables.items())])
    files.write_text(out / "comparison.html", page.write_page(sections, comparison.experiments, summary))
    files.write_text(out / "comparison.md", f"{text}\n")
    files.write_json(out / "comparison.json", comparison.records())
    for cost, figure in pareto.items():
        files.write_text(out / f"pareto_{cost}.svg", f"{figure}\n")
    return sorted(path for path in out.iterdir() if path.suffix in (".html", ".md", ".json", ".svg"))


def _explain(table: Table | None) -> list[Block]:
    return [Note(PAIRED), table] if table else []


@with_help(__doc__)
def main(words: Sequence[str]) -> int:
    """Prints and writes the comparison of the runs that the command line names; returns the exit status.

    Raises:
        UserError: for a mistake in the words or the runs.
    """
    parser = Arguments("jaxdistill compare")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--out", default="comparison")
    flags = parser.parse_intermixed_args(list(words))
    comparison = compare(flags.runs)
    out = files.local_path("--out", flags.out)
    with writing("--out", flags.out):
        out.mkdir(parents=True, exist_ok=True)
        written = write_comparison(comparison, out)
    print(f"{comparison.summarize()}\n")
    for title, table in comparison.tables().items():
        print(f"{title}\n{table.to_text()}\n")
    for path in written:
        print(path)
    return 0
