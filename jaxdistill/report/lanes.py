"""The section of the report that compares lanes: what they differ in, where they end, their curves in one plot."""

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from jaxdistill.config import sweep
from jaxdistill.report import figures
from jaxdistill.report.html import grid, say, tabulated
from jaxdistill.report.tables import Rows, columns, number, plus_minus

Lines = Sequence[Mapping[str, Any]]
Settings = list[dict[str, Any]]
"""What each lane differs in, by dotted name."""


def lanes(rows: Rows, stages: Mapping[str, Lines], config: Mapping[str, Any] | None) -> str:
    """Returns the section with its heading, "" where nothing was done in lanes.

    Args:
        rows: of `lanes.json`, one for each network and lane.
        stages: the lines of `metrics.jsonl`.
        config: as resolved.
    """
    swept = {stage: differences(config or {}, stage, lines) for stage, lines in stages.items() if count(lines)}
    found = "".join(f"<h3>{escape(stage)}</h3>{of_stage(stage, stages[stage], own)}" for stage, own in swept.items())
    evaluated = evaluation(rows, list(swept.values())) if rows else ""
    return f"<h2>Lanes</h2>{evaluated}{found}" if found or evaluated else ""


def count(lines: Lines) -> int:
    """How many lanes a stage has logged."""
    numbers = [int(key.partition("/")[0]) for line in lines for key in line if re.match(r"\d+/", key)]
    # A network may be called by a number; of a lane there is the loss.
    return max(numbers, default=-1) + 1 if any("0/loss" in line for line in lines) else 0


def differences(config: Mapping[str, Any], stage: str, lines: Lines) -> Settings:
    own = (config.get("stages") or {}).get(stage, {}).get("sweep", config.get("sweep"))
    told = sweep.differences(own or {})
    return told if len(told) == count(lines) else [{} for _ in range(count(lines))]


def shared(each: Sequence[Settings], lanes: int) -> Settings:
    """What lanes differ in that are in step through several stages: what all of these say that say it."""
    merged: Settings = [{} for _ in range(lanes)]
    for told in each:
        for own, more in zip(merged, told, strict=False) if len(told) == lanes else ():
            for name, value in more.items():
                own[name] = value if own.get(name, value) == value else f"{own[name]}, {value}"
    return merged


def groups(settings: Settings) -> dict[tuple, list[int]]:
    """The lanes that differ in their seed alone, by what else they are told."""
    found: dict[tuple, list[int]] = {}
    for lane, own in enumerate(settings):
        found.setdefault(tuple((k, v) for k, v in own.items() if k != "seed"), []).append(lane)
    return found


def short(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def label(lane: int, own: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name.rpartition('.')[2]} {written(value)}" for name, value in own.items())
    return f"{lane}: {told}" if told else f"lane {lane}"


def count_of(rows: Rows) -> int:
    return 1 + max(row["lane"] or 0 for row in rows)


def terminal(rows: Rows, stages: Mapping[str, Lines], config: Mapping[str, Any] | None) -> Rows:
    """Returns rows for the terminal: of each network one for the lanes that differ in their seed alone, `mean ± sd`."""
    each = [differences(config or {}, stage, lines) for stage, lines in stages.items() if count(lines)]
    settings, found = shared(each, count_of(rows)), []
    for name in dict.fromkeys(row["network"] for row in rows):
        own = {row["lane"]: row for row in rows if row["network"] == name}
        for told, members in (groups(settings) if None not in own else {(): [None]}).items():
            words = ", ".join(f"{short(key)} {written(value)}" for key, value in told)
            row = own[members[0]]
            sizes = {key: row[key] for key in ("parameters", "flops") if key in row}
            numbers = [key for key in row if key not in ("network", "lane", *sizes)]
            spread = {key: plus_minus([own[lane].get(key) for lane in members]) for key in numbers}
            found.append({"network": f"{name} ({words})" if words else name} | sizes | spread)
    return found


def evaluation(rows: Rows, each: Sequence[Settings]) -> str:
    """Returns the table of the final evaluation: mean and standard deviation over lanes that differ in seed alone."""
    names = [name for name in columns(rows) if name not in ("network", "parameters", "flops", "lane")]
    settings = shared(each, count_of(rows))
    keys = list(dict.fromkeys(key for own in settings for key in own if key != "seed"))
    body, every = [], []
    for network in dict.fromkeys(row["network"] for row in rows):
        own = {row["lane"]: row for row in rows if row["network"] == network}
        for told, members in (groups(settings) if None not in own else {(): [None]}).items():
            cells = [f"<td>{escape(written(dict(told).get(key, '')))}</td>" for key in keys]
            values = [plus_minus([own[lane].get(name) for lane in members]) for name in names]
            head = f'<th scope="row">{escape(network)}</th>'
            body.append([head, *cells, f"<td>{len(members)}</td>", *(f"<td>{value}</td>" for value in values)])
        every += [
            [f'<th scope="row">{escape(network)}, {escape(label(lane, settings[lane]))}</th>']
            + [f"<td>{number(name, row.get(name))}</td>" for name in names]
            for lane, row in own.items()
            if lane is not None
        ]
    told = (
        "Mean and standard deviation (n - 1) over the lanes that differ in their seed alone. The results above are"
        " means over all lanes; everything from the confusion matrices on is of lane 0. Another lane becomes a run with"
        " a report of its own by --lane=N --from=THIS."
    )
    whole = f"<details><summary>Every lane</summary>{tabulated(['network, lane', *names], every)}</details>"
    return say(told) + tabulated(["network", *map(short, keys), "lanes", *names], body) + whole


def of_stage(stage: str, lines: Lines, settings: Settings) -> str:
    """Returns a table of a stage's lanes, with where they ended and the best they were, and their curves."""
    trained = [line for line in lines if "split" not in line]
    split = next((line["split"] for line in lines if "split" in line), "")
    watched = [line for line in lines if line.get("split") == split] if split else []
    numbers = {"loss": trained} | {
        key.partition("/")[2]: watched for line in watched for key in line if key[:2] == "0/"
    }
    last = {n: [ends(held, f"{lane}/{n}")[0] for lane in range(len(settings))] for n, held in numbers.items()}
    best = {
        f"best {n}": [ends(held, f"{lane}/{n}")[1] for lane in range(len(settings))]
        for n, held in numbers.items()
        if n != "loss"
    }
    table = {name: values for name, values in (last | best).items() if values}
    keys = list(dict.fromkeys(key for own in settings for key in own))
    body = [
        [f'<th scope="row">{lane}</th>']
        + [f"<td>{escape(written(own.get(key, '')))}</td>" for key in keys]
        + [f"<td>{number('', values[lane])}</td>" for values in table.values()]
        for lane, own in enumerate(settings)
    ]
    for told, members in groups(settings).items():
        if len(members) > 1:
            cells = [f"<td>{escape(written(dict(told).get(key, '')))}</td>" for key in keys]
            spread = [f"<td>{plus_minus([values[lane] for lane in members])}</td>" for values in table.values()]
            body.append([f'<th scope="row">mean ± sd of {len(members)}</th>', *cells, *spread])
    curves = [drawn(stage, name, held, settings, split) for name, held in numbers.items() if followed(name)]
    return tabulated(["lane", *map(short, keys), *table], body) + grid([curve for curve in curves if curve])


def followed(name: str) -> bool:
    return name == "loss" or name.endswith("/accuracy")


def ends(lines: Lines, key: str) -> tuple[float | None, float | None]:
    """The last of the numbers that lines hold, and the best of them."""
    from jaxdistill.metrics import METRICS

    held = [line[key] for line in lines if isinstance(line.get(key), int | float)]
    metric = METRICS.get(key.rpartition("/")[2])
    best = {"max": max, "min": min}.get(metric.better if metric else "", min)
    return (held[-1], best(held)) if held else (None, None)


def drawn(stage: str, name: str, lines: Lines, settings: Settings, split: str) -> str:
    """Draws one number of all lanes by step; "" where there is none."""
    held = {}
    for lane, own in enumerate(settings):
        points = [(line["step"], line[f"{lane}/{name}"]) for line in lines if line.get(f"{lane}/{name}") is not None]
        if points:
            held[label(lane, own)] = tuple(zip(*points, strict=True))
    what = name if name == "loss" else f"{split} {name}"
    return figures.curves(held, f"{stage}: {what} of every lane", y=what) if held else ""
