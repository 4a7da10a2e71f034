"""The comparison as tables, figures and one page."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxdistill.compare.differences import OVER_EXAMPLES, OVER_SEEDS, Difference
from jaxdistill.compare.experiments import Experiment, list_settings, place_of
from jaxdistill.compare.finished_run import FinishedRun
from jaxdistill.report import figures
from jaxdistill.report.html import Block, Figures, Heading, Section, render_page
from jaxdistill.report.quality import (
    MAXIMISED,
    MEASURES,
    Points,
    choose_final,
    choose_measure,
    gather_points,
    name_by_network,
    select_evaluations,
)
from jaxdistill.report.tables import COSTS, TITLES, Cell, Table, format_mean, format_value, list_columns

DRAWN_COSTS = ("bytes", "flops", "latency_ms")
"""Costs over which quality is drawn, if the runs have them."""

MANY = 8
"""The largest number of experiments whose curves are in one figure: the colours of its lines."""


def describe_runs(runs: Sequence[FinishedRun]) -> Table:
    """Returns a row for each run: its folder, seeds, code, device and time."""
    rows = []
    for run in runs:
        devices, project = run.launch.get("devices") or {}, run.launch.get("project") or {}
        code = [str(run.launch.get("commit", "-"))[:9]]
        code += [f"{project['commit'][:9]}{'+' * ('diff' in project)}"] if project.get("commit") else []
        seeds = dict.fromkeys(member.seed for member in run.members())
        shown = f"{devices.get('number', '-')} {devices.get('kind', '')}".strip()
        rows.append([run.name, ", ".join(seeds), " / ".join(code), shown, str(run.launch.get("time", "-"))])
    return Table(["run", "seed", "commit / project", "devices", "last launch"], rows)


def describe_settings(experiments: Sequence[Experiment]) -> Table | None:
    """Returns a row for each setting other than seeds in which the experiments differ; `None` if there is none."""
    settings = list_settings([experiment.members for experiment in experiments])
    names = [experiment.name for experiment in experiments]
    return Table(["setting", *names], [[path, *values] for path, values in settings]) if settings else None


def describe_results(experiments: Sequence[Experiment], better: Mapping[str, str]) -> Table:
    """Returns a row for each network and experiment: its cost, and mean ± deviation over seeds of each metric."""
    every = [row for experiment in experiments for member in experiment.members for row in member.rows]
    names = [name for name in list_columns(every)[1:] if name not in ("lane", "evaluation", "split")]
    carried = [name for name in ("evaluation", "split") if any(name in row for row in every)]
    body = []
    for place in dict.fromkeys(map(place_of, every)):
        having = [experiment for experiment in experiments if place in experiment.places()]
        means = {name: [experiment.mean(place, name) for experiment in having] for name in names}
        best = {name: _find_best(means[name], better.get(name)) for name in names}
        for number, experiment in enumerate(having):
            rows = experiment.rows(place)
            texts = [_format(rows, name) for name in names]
            cells = [Cell(text, best=best[name] == number) for name, text in zip(names, texts, strict=True)]
            labels = [str(rows[0].get(name, "-")) for name in carried]
            body.append([place[0], *labels, experiment.name, str(len(rows)), *cells])
    return Table(["network", *carried, "run", "seeds", *(TITLES.get(name, name) for name in names)], body)


def _format(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row.get(name) for row in rows]
    if name in COSTS and len({*values}) == 1:
        return format_value(values[0], name)
    return format_mean(values)


def _find_best(values: Sequence[float | None], better: str | None) -> int | None:
    """Returns the place of the best mean; `None` if there is no better end, or all are equal."""
    numbers = {place: value for place, value in enumerate(values) if value is not None}
    if better is None or len({*numbers.values()}) < 2:
        return None
    return (max if better == "max" else min)(numbers, key=lambda place: numbers[place])


def describe_differences(named: Mapping[str, Iterable[Difference]]) -> Table | None:
    """Returns a row for each pair of sides and network, a column for each metric; `None` without differences.

    Args:
        named: differences within each experiment, by its name; by "" those between experiments.
    """
    rows: dict[tuple[str, ...], dict[str, dict[str, Difference]]] = {}
    for name, item in ((name, item) for name, items in named.items() for item in items):
        network = " ".join(part for part in item.place if part)
        labels = (network, *filter(None, [name]), f"{item.side} - {item.base}")
        rows.setdefault(labels, {}).setdefault(item.over, {})[item.metric] = item
    lines = [(labels, items) for labels, by_pairs in rows.items() for items in _join_single_seed(by_pairs)]
    names = list(dict.fromkeys(name for _, items in lines for name in items))
    columns = ["network", *["run" for name in named if name][:1], "difference", "over", *names]
    body = [
        [*labels, _count(items.values()), *(format_difference(items.get(name)) for name in names)]
        for labels, items in lines
    ]
    return Table(columns, body) if rows else None


def _join_single_seed(by_pairs: Mapping[str, Mapping[str, Difference]]) -> list[Mapping[str, Difference]]:
    """Returns the lines of two sides; a single seed has no error, so that it takes that over the examples."""
    seeds, examples = (by_pairs.get(over, {}) for over in (OVER_SEEDS, OVER_EXAMPLES))
    if seeds and examples and all(len(item.values) == 1 for item in seeds.values()):
        return [{**seeds, **examples}]
    return [items for items in (seeds, examples) if items]


def _count(items: Iterable[Difference]) -> str:
    """Writes the pairs of a line: `3 seeds`, or `1 seed, 360 examples`."""
    counts = {item.over: len(item.values) for item in items}
    ordered = [(over, counts[over]) for over in (OVER_SEEDS, OVER_EXAMPLES) if over in counts]
    return ", ".join(f"{count} {over if count > 1 else over.removesuffix('s')}" for over, count in ordered)


def format_difference(item: Difference | None) -> str:
    """Writes a mean difference and its standard error: `+0.0125 ± 0.0031`; of a single pair the difference alone."""
    if item is None:
        return "-"
    return f"{item.mean:+.4f}" + ("" if item.error is None else f" ± {item.error:.4f}")


def draw_curves(experiments: Sequence[Experiment]) -> list[Block]:
    """Returns the curves of each stage, of all experiments in one figure: the mean over seeds."""
    stages = dict.fromkeys(stage for experiment in experiments for run in _runs(experiment) for stage in run.stages)
    blocks: list[Block] = []
    for stage in stages:
        titles: dict[str, Points] = {}
        for experiment in experiments[:MANY]:
            for title, points in _curves(experiment, stage).items():
                titles.setdefault(title, {})[experiment.name] = points
        drawn = [
            figures.draw_curves(curves, f"{stage}: {title} of every run", y=title) for title, curves in titles.items()
        ]
        blocks += [Heading(stage), Figures(drawn)] if drawn else []
    return blocks


def _runs(experiment: Experiment) -> list[FinishedRun]:
    return [member.run for member in experiment.members]


def _curves(experiment: Experiment, stage: str) -> dict[str, tuple[list[float], list[float]]]:
    """Returns the loss of a stage, and its evaluated measure for each network, as means over the members."""
    gathered: dict[str, list[tuple[list[float], list[float]]]] = {}
    for member in experiment.members:
        lines = member.run.stages.get(stage, [])
        train = [line for line in lines if "split" not in line]
        split, evaluated = select_evaluations(lines)
        measure = choose_measure(lines)
        name_network = name_by_network(measure)
        prefix = member.prefix if any(f"{member.prefix}loss" in line for line in lines) else ""

        def name_curve(key: str, prefix: str = prefix, name: Any = name_network) -> str | None:
            return name(key.removeprefix(prefix)) if key.startswith(prefix) else None

        loss = gather_points(train, {f"{prefix}loss": "loss"}.get)
        points = gather_points(evaluated, name_curve)
        titled = {f"{split} {MEASURES[measure]} of {name}": curve for name, curve in points.items()}
        for title, curve in (loss | titled).items():
            gathered.setdefault(title, []).append(curve)
    return {title: _average(curves) for title, curves in gathered.items()}


def _average(curves: Sequence[tuple[list[float], list[float]]]) -> tuple[list[float], list[float]]:
    """Returns the mean of curves at the steps that all of them have."""
    values = [dict(zip(*curve, strict=True)) for curve in curves]
    steps = [step for step in values[0] if all(step in curve for curve in values)]
    return steps, [statistics.fmean(curve[step] for curve in values) for step in steps]


def draw_pareto(experiments: Sequence[Experiment], evaluation: Mapping[str, Any]) -> dict[str, str]:
    """Returns a figure of quality over each cost, a series for each experiment, by the name of the cost."""
    rows = [row for experiment in experiments for member in experiment.members for row in member.rows]
    measure = choose_final(rows, evaluation)
    better = evaluation.get("better", {}).get(measure, "max" if measure in MAXIMISED else "min")
    drawn = {}
    for cost in DRAWN_COSTS:
        series: dict[str, dict[str, tuple[float, float]]] = {}
        for experiment in experiments[:MANY]:
            for place in experiment.places():
                x, y = experiment.mean(place, cost), experiment.mean(place, measure)
                if x and y is not None:
                    series.setdefault(experiment.name, {})[" ".join(filter(None, place))] = (x, y)
        if len({point for points in series.values() for point in points.values()}) > 1:
            title, label = TITLES.get(cost, cost), f"{MEASURES[measure]} over {TITLES.get(cost, cost)} of every run"
            drawn[cost] = figures.draw_pareto(series, label, x=title, y=MEASURES[measure], better=better)
    return drawn


def write_page(sections: Sequence[Section], experiments: Sequence[Experiment], summary: str) -> str:
    """Returns the page."""
    title = " and ".join(experiment.name for experiment in experiments[:3]) + " ..." * (len(experiments) > 3)
    return render_page(title, summary, sections, heading="Comparison of runs")
