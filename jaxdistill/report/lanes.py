"""The section of the report that compares lanes: their settings, final and best values, and curves."""

import dataclasses
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jaxdistill.config.sweep import SweepConfig
from jaxdistill.errors import UserError
from jaxdistill.report import figures
from jaxdistill.report.html import Block, Details, Figures, Heading, Note
from jaxdistill.report.inputs import evaluate_again, read_optional
from jaxdistill.report.quality import Better, Lines, Points, Stages, gather_points
from jaxdistill.report.tables import (
    COSTS,
    Rows,
    Table,
    find_parts,
    format_mean,
    format_value,
    list_columns,
    list_main_columns,
    make_parts_table,
)

LaneSettings = list[dict[str, Any]]
"""The swept settings of each lane, by dotted name."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Rows of one network in lanes that differ in their seed alone.

    Attributes:
        network: its name.
        settings: the swept settings that the lanes share, without the seed.
        rows: one for each lane; a single row for a network that all lanes share.
    """

    network: str
    settings: Mapping[str, Any]
    rows: Rows

    def format_means(self, names: Iterable[str]) -> dict[str, str]:
        """Returns mean and standard deviation over the rows of each column."""
        return {name: format_mean([row.get(name) for row in self.rows]) for name in names}

    def format_settings(self, names: Iterable[str]) -> list[str]:
        """Returns the settings of these names as cells; a setting of other groups alone is empty."""
        return [_format_setting(self.settings.get(name, "")) for name in names]


def read(workdir: pathlib.Path) -> Rows:
    """Reads the rows of an evaluation in lanes, one for each network and lane; none for a run without lanes.

    Raises:
        UserError: if `lanes.json` holds anything else.
    """
    path, keys = workdir / "lanes.json", {"network", "lane"}
    rows = read_optional(path) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) and keys <= row.keys() for row in rows):
        raise UserError(f"{path} must be a list of rows with a network and a lane each. {evaluate_again(path)}")
    return rows


def group_lanes(rows: Rows, settings: LaneSettings) -> list[Group]:
    """Groups rows by network, and by the swept settings other than the seed.

    Args:
        rows: each has "network" and "lane", the latter None if all lanes share the network.
        settings: of every lane.
    """
    groups: dict[tuple, list[Mapping[str, Any]]] = {}
    for row in rows:
        swept = {} if row["lane"] is None else settings[row["lane"]]
        shared = tuple((name, value) for name, value in swept.items() if name != "seed")
        groups.setdefault((row["network"], shared), []).append(row)
    order = list(dict.fromkeys(row["network"] for row in rows))
    by_settings = [Group(network, dict(shared), members) for (network, shared), members in groups.items()]
    return sorted(by_settings, key=lambda group: order.index(group.network))


def compare(rows: Rows, stages: Stages, config: Mapping[str, Any] | None, evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the blocks of the section, none for a run without lanes.

    Args:
        rows: of `lanes.json`, one for each network and lane.
        stages: the lines of `metrics.jsonl`.
        config: as resolved.
        evaluation: `evaluation.json`.
    """
    swept = _swept_settings(stages, config)
    blocks = _evaluation(rows, _merge_settings(swept.values(), _count_evaluated(rows)), evaluation) if rows else []
    for stage, settings in swept.items():
        blocks += [Heading(stage), *_stage(stage, stages[stage], settings, evaluation)]
    return blocks


def summarize(rows: Rows, stages: Stages, config: Mapping[str, Any] | None) -> Rows:
    """Returns rows for the terminal: one for each network and group of lanes, with means and spreads."""
    settings = settings_of_lanes(rows, stages, config)
    summary = []
    for group in group_lanes(rows, settings):
        shared = ", ".join(f"{_shorten(name)} {_format_setting(value)}" for name, value in group.settings.items())
        first = group.rows[0]
        sizes = {name: first[name] for name in ("evaluation", "split", *COSTS) if name in first}
        means = group.format_means(name for name in first if name not in ("network", "lane", *sizes))
        summary.append({"network": f"{group.network} ({shared})" if shared else group.network} | sizes | means)
    return summary


def settings_of_lanes(rows: Rows, stages: Stages, config: Mapping[str, Any] | None) -> LaneSettings:
    """Returns the swept settings of each lane that was evaluated; a value that differs between stages is a list."""
    return _merge_settings(_swept_settings(stages, config).values(), _count_evaluated(rows))


def _swept_settings(stages: Stages, config: Mapping[str, Any] | None) -> dict[str, LaneSettings]:
    """Returns the settings of the lanes of each stage that has some."""
    counts = {stage: _count_lanes(lines) for stage, lines in stages.items()}
    return {stage: _lane_settings(config or {}, stage, count) for stage, count in counts.items() if count}


def _count_lanes(lines: Lines) -> int:
    """Counts the lanes that a stage has logged."""
    numbers = [int(key.partition("/")[0]) for line in lines for key in line if re.match(r"\d+/", key)]
    # A network may be called by a number; only a lane has a loss.
    return max(numbers, default=-1) + 1 if any("0/loss" in line for line in lines) else 0


def _count_evaluated(rows: Rows) -> int:
    return 1 + max((row["lane"] or 0 for row in rows), default=0)


def _lane_settings(config: Mapping[str, Any], stage: str, count: int) -> LaneSettings:
    section = (config.get("stages") or {}).get(stage, {}).get("sweep", config.get("sweep"))
    settings = SweepConfig.parse(section or {}, f"stages.{stage}.sweep").lanes()
    return settings if len(settings) == count else [{} for _ in range(count)]


def _merge_settings(stages: Iterable[LaneSettings], count: int) -> LaneSettings:
    """Merges the settings of lanes that pair up through several stages; values that differ are listed."""
    merged: LaneSettings = [{} for _ in range(count)]
    for settings in stages:
        for lane, swept in zip(merged, settings, strict=False) if len(settings) == count else ():
            for name, value in swept.items():
                lane[name] = value if lane.get(name, value) == value else f"{lane[name]}, {value}"
    return merged


def _list_names(settings: LaneSettings) -> list[str]:
    return list(dict.fromkeys(name for swept in settings for name in swept))


def _shorten(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def _format_setting(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _label(lane: int, swept: Mapping[str, Any]) -> str:
    settings = ", ".join(f"{name.rpartition('.')[2]} {_format_setting(value)}" for name, value in swept.items())
    return f"{lane}: {settings}" if settings else f"lane {lane}"


def _evaluation(rows: Rows, settings: LaneSettings, evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the tables of the final evaluation: of groups of lanes, and of every lane; with those of parts."""
    about = ("network", "evaluation", "split", "lane", *COSTS)
    names = [name for name in list_main_columns(rows) if name not in about]
    parts = [*find_parts(list_columns(rows))]
    swept = [name for name in _list_names(settings) if name != "seed"]
    groups = [
        {"network": group.network}
        | dict(zip(swept, group.format_settings(swept), strict=True))
        | {"lanes": str(len(group.rows))}
        | group.format_means([*names, *parts])
        for group in group_lanes(rows, settings)
    ]
    every = [
        {"network, lane": f"{network}, {_label(row['lane'], settings[row['lane']])}"}
        | {name: format_value(row.get(name), name) for name in (*names, *parts)}
        for network in dict.fromkeys(row["network"] for row in rows)
        for row in rows
        if row["network"] == network and row["lane"] is not None
    ]
    text = (
        "Mean and standard deviation (n - 1) over the lanes that differ in their seed alone. The results above are"
        " means over all lanes; everything from the confusion matrices on is of lane 0. --lane=N --from=WORKDIR makes"
        " a run of another lane, with a report of its own."
    )
    route = evaluation.get("route") or {}
    of_groups, group_parts = _tabulate(groups, ["network", *swept, "lanes"], names, route)
    of_lanes, lane_parts = _tabulate(every, ["network, lane"], names, route)
    return [
        Note(text),
        of_groups,
        *([Heading(_by_route(route)), group_parts] if group_parts else []),
        Details("Every lane", of_lanes),
        *_fold_parts(lane_parts, route),
    ]


def _by_route(route: Mapping[str, Any]) -> str:
    return f"by {route.get('column', 'route')}"


def _fold_parts(parts: Table | None, route: Mapping[str, Any]) -> list[Block]:
    """Returns the table of the parts of every lane, which is long, under its title; [] without parts."""
    return [Details(f"Every lane {_by_route(route)}", parts)] if parts else []


def _tabulate(
    rows: Rows, labels: Sequence[str], names: Sequence[str], route: Mapping[str, Any]
) -> tuple[Table, Table | None]:
    """Returns the table of some columns, and that of the parts, `None` without `data.route`.

    Args:
        rows: cells as text, by column.
        labels: the columns that name a row, in the tables by their last words.
        names: the columns of all examples.
        route: of `evaluation.json`.
    """
    titles = [*map(_shorten, labels)]
    table = Table([*titles, *names], [[row[name] for name in (*labels, *names)] for row in rows])
    parts = make_parts_table(rows, route.get("column", "route"), route.get("examples"), labels)
    return table, Table([*titles, *parts.columns[len(labels) :]], parts.rows) if parts else None


def _stage(stage: str, lines: Lines, settings: LaneSettings, evaluation: Mapping[str, Any]) -> list[Block]:
    """Returns the table of a stage's lanes, with final and best values, and their curves."""
    train = [line for line in lines if "split" not in line]
    split = next((line["split"] for line in lines if "split" in line), "")
    evaluated = [line for line in lines if line.get("split") == split] if split else []
    numbers = {"loss": train} | {
        key.partition("/")[2]: evaluated for line in evaluated for key in line if key[:2] == "0/"
    }
    rows = _list_ends(numbers, len(settings), evaluation.get("better", {}))
    names, swept = [name for name in rows[0] if name not in ("network", "lane")], _list_names(settings)
    body = [
        {"lane": str(row["lane"])}
        | {name: _format_setting(settings[row["lane"]].get(name, "")) for name in swept}
        | {name: format_value(row[name]) for name in names}
        for row in rows
    ]
    body += [
        {"lane": f"mean ± sd of {len(group.rows)}"}
        | dict(zip(swept, group.format_settings(swept), strict=True))
        | group.format_means(names)
        for group in group_lanes(rows, settings)
        if len(group.rows) > 1
    ]
    route = {"column": (evaluation.get("route") or {}).get("column", "route")}  # its numbers of examples are another's
    of_parts = find_parts(names)
    table, parts = _tabulate(body, ["lane", *swept], [name for name in names if name not in of_parts], route)
    curves = {
        name if name == "loss" else f"{split} {name}": _gather_curves(name, logged, settings)
        for name, logged in numbers.items()
        if _is_drawn(name)
    }
    drawn = [
        figures.draw_curves(points, f"{stage}: {title} of every lane", y=title)
        for title, points in curves.items()
        if points
    ]
    return [table, *_fold_parts(parts, route), Figures(drawn)]


def _list_ends(numbers: Mapping[str, Lines], count: int, better: Better) -> list[dict[str, Any]]:
    """Returns a row for each lane: the last of each number, and the best of those that are evaluated."""
    parts = find_parts([*numbers])
    metrics = {name: parts.get(name, (name, ""))[0].rpartition("/")[2] for name in numbers}
    rows: list[dict[str, Any]] = [{"network": "", "lane": lane} for lane in range(count)]
    for row in rows:
        ends = {
            name: _final_and_best(logged, f"{row['lane']}/{name}", better.get(metrics[name], "min"))
            for name, logged in numbers.items()
        }
        row |= {name: last for name, (last, _) in ends.items()}
        row |= {f"best {name}": best for name, (_, best) in ends.items() if name != "loss"}
    return rows


def _is_drawn(name: str) -> bool:
    return name == "loss" or name.endswith("/accuracy")


def _final_and_best(lines: Lines, key: str, better: str) -> tuple[float | None, float | None]:
    """Returns the last number that lines hold under a key, and the best of them, by its better end."""
    values = [line[key] for line in lines if isinstance(line.get(key), int | float)]
    best = {"max": max, "min": min}[better]
    return (values[-1], best(values)) if values else (None, None)


def _gather_curves(name: str, lines: Lines, settings: LaneSettings) -> Points:
    """Gathers one number of all lanes by step."""
    keys = {f"{lane}/{name}": _label(lane, swept) for lane, swept in enumerate(settings)}
    return gather_points(lines, keys.get)
