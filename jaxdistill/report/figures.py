"""Figures as SVG text, and images as PNG, for the report, the docs and a README.

A figure's `label` is its text for screen readers and the salt of its ids; labels must differ within a page. Ink is
the SVG's `currentColor` and backgrounds are clear, so that a figure can be read on a light and on a dark page. Equal
input gives equal bytes.
"""

import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Name = TypeVar("Name")

PALETTE = ("#3b82f6", "#e8762b", "#27a567", "#a06ee1", "#e0526a", "#12a5b5", "#b08a2e", "#8b95a1")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, FAINT = "#010203", "#040506"  # replaced by currentColor, whose value the page sets
RIGHT, WRONG = (
    (0.231, 0.510, 0.965),
    (0.910, 0.463, 0.169),
)  # blue and orange differ for colour-blind eyes too

SETTINGS = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # part of matplotlib, so that the layout is the same everywhere
    "font.size": 9,
    "text.parse_math": False,  # a name may have a dollar sign in it
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}
STYLE = (
    "<style>.figure{color:#1f2328;font-family:system-ui,sans-serif}"
    "@media(prefers-color-scheme:dark){.figure{color:#d6dbe1}}</style>"
)


def render_svg(paint: "Callable[[Figure], None]", size: tuple[float, float], label: str) -> str:
    """Returns the figure that `paint` fills as an SVG of `size` inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS | {"svg.hashsalt": label}):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        text = io.StringIO()
        no_metadata = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        figure.savefig(text, format="svg", metadata=no_metadata)
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # figure_1, text_2: unused, and not unique on a page
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg).replace("font-family: 'DejaVu Sans'; ", "")
    svg = svg.replace(INK, "currentColor").replace(FAINT, "rgba(128,138,150,.55)")
    name = escape(label)
    return svg.replace("<svg ", f'<svg class="figure" role="img" aria-label="{name}" ', 1).replace(
        ">", f">{STYLE}<title>{name}</title>", 1
    )


def draw_curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    label: str,
    x: str = "step",
    y: str = "",
    emphasis: str = "",
) -> str:
    """Draws lines.

    The y axis is logarithmic if all values are positive and span a factor of more than 50.

    Args:
        series: `{name: (x values, y values)}`; a single line whose name is `y` has no legend.
        label: of the figure.
        x: title of the x axis.
        y: title of the y axis.
        emphasis: the line that is thick and in ink.
    """

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        others = [name for name in series if name != emphasis]
        for name, (xs, ys) in series.items():
            number = others.index(name) if name in others else 0
            style: dict[str, Any] = {
                "color": PALETTE[number % len(PALETTE)],
                "linestyle": STYLES[number % len(STYLES)],
                "lw": 1.4,
            }
            if name == emphasis:
                style = {"color": INK, "lw": 2.2, "zorder": 1.9}
            axes.plot(xs, ys, label=shorten(name), marker="o" if len(xs) < 3 else None, ms=4, **style)
        values = np.concatenate([np.asarray(ys, np.float64) for _, ys in series.values()])
        values = values[np.isfinite(values)]
        if values.size and values.min() > 0 and values.max() > 50 * values.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")  # the default needs the mathematics that SETTINGS forbids
            axes.yaxis.set_minor_formatter("")
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        if set(series) != {y}:
            axes.legend(fontsize=8)

    return render_svg(paint, (3.9, 2.8), label)


def draw_pareto(
    series: Mapping[str, Mapping[str, tuple[float, float]]],
    label: str,
    *,
    x: str,
    y: str,
    better: str = "max",
    least: float | None = None,
) -> str:
    """Draws a quality over a cost, on a logarithmic axis, and for each series the line that joins its best points.

    Args:
        series: `{series: {name: (cost, quality)}}`, costs above 0; a single one has no legend. A point that no other
            one of any series beats in both has its name beside it.
        label: of the figure.
        x: title of the x axis, of the cost, of which less is better.
        y: title of the y axis, of the quality.
        better: its better end, "max" or "min".
        least: the lower end of the y axis; what is below is not drawn.
    """
    every = {(name, point): value for name, points in series.items() for point, value in points.items()}
    front = find_front(every, better)

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel=x, ylabel=y, xscale="log")
        for number, (name, points) in enumerate(series.items()):
            style = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)], "ms": 4}
            axes.plot(*zip(*points.values(), strict=True), ls="none", alpha=0.6, **style)
            best = [points[point] for point in find_front(points, better)]
            # A step: between two points, the best that the cost affords is the cheaper one.
            axes.step(*zip(*best, strict=True), where="post", lw=1.4, label=name, **style)
        above = {"xytext": (2, 5 if better == "max" else -12), "textcoords": "offset points"}
        for number, (name, point) in enumerate(front):
            side = "right" if number else "left"  # the cheapest one's stays within the axes
            axes.annotate(shorten(point), every[name, point], fontsize=7, ha=side, annotation_clip=True, **above)
        costs = [cost for cost, _ in every.values()]
        if min(costs) < max(costs) and math.ceil(math.log10(min(costs))) > math.log10(max(costs)):
            axes.set_xticks([min(costs), max(costs)])  # no power of ten lies between them
        axes.xaxis.set_major_formatter(lambda value, _: format_quantity(value))
        axes.xaxis.set_minor_formatter("")
        axes.margins(x=0.15, y=0.12)
        if least is not None:
            highest = max(quality for _, quality in every.values())
            axes.set_ylim(least, highest + 0.08 * (highest - least))
        if len(series) > 1:
            axes.legend(fontsize=8, loc="lower right")

    return render_svg(paint, (6.4, 4.2), label)


def find_front(points: Mapping[Name, tuple[float, float]], better: str = "max") -> list[Name]:
    """Returns the names of the points `(cost, quality)` that no cheaper or equal one matches, the cheapest first."""
    sign = 1 if better == "max" else -1
    front: list[Name] = []
    for name in sorted(points, key=lambda name: (points[name][0], -sign * points[name][1])):
        if not front or sign * points[name][1] > sign * points[front[-1]][1]:
            front.append(name)
    return front


def format_quantity(value: float) -> str:
    """Writes 12000 as `12 k`."""
    for size, prefix in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{prefix}"
    return f"{value:g}"


def draw_confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], title: str, label: str) -> str:
    """Draws counts `[classes][classes]`, a row per true class; the colour is the fraction of the row.

    Blue is right and orange is wrong, from 0 to 1 in every figure, so that networks compare. The opacity is the
    square root of the fraction, so that one mistake in fifty can be seen. Up to 20 classes, counts are written.
    """
    numbers = np.asarray(counts)
    fraction = numbers / np.maximum(numbers.sum(-1, keepdims=True), 1)
    texts = np.where(numbers > 0, numbers.astype(str), "")
    few = len(numbers) <= 20

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot(title=shorten(title), xlabel="predicted", ylabel="true")
        colours = np.where(np.eye(len(numbers), dtype=bool)[..., None], RIGHT, WRONG)
        draw_heatmap(axes, np.sqrt(fraction), colours, texts if few else None)
        if few:
            label_ticks(axes, classes, classes)

    side = 3.6 if len(numbers) <= 12 else 5.2
    return render_svg(paint, (side, side), label)


def draw_agreement(fractions: Sequence[Sequence[float]], names: Sequence[str], label: str) -> str:
    """Draws a symmetric matrix of fractions of equal predictions, coloured from its least value to 1."""
    matrix = np.asarray(fractions, np.float64)
    least = np.nanmin(matrix)
    strength = np.where(np.eye(len(matrix), dtype=bool), 0.0, (matrix - least) / max(1 - least, 1e-9) * 0.8 + 0.1)

    def paint(figure: "Figure") -> None:
        texts = np.vectorize(lambda value: f"{value:.4f}")(matrix)
        axes = figure.add_subplot()
        draw_heatmap(axes, strength, np.broadcast_to(RIGHT, (*matrix.shape, 3)), texts)
        label_ticks(axes, names, names)

    side = 1.8 + 0.62 * len(names)
    return render_svg(paint, (side, side * 0.85), label)


def draw_alignment(
    values: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    row_title: str,
    column_title: str,
    label: str,
) -> str:
    """Draws the similarity of two networks' taps.

    Args:
        values: `[rows][columns]`, from 0 (clear) to 1 (full); None is left empty. Up to 12 taps they are written.
        rows: names of the rows.
        columns: names of the columns.
        row_title: title of the y axis.
        column_title: title of the x axis.
        label: of the figure.
    """
    matrix = np.asarray(values, np.float64)
    few = max(matrix.shape) <= 12

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel=shorten(column_title), ylabel=shorten(row_title))
        texts = np.vectorize(lambda value: f"{value:.2f}" if np.isfinite(value) else "", otypes=[object])(matrix)
        strength = np.nan_to_num(matrix).clip(0, 1)
        draw_heatmap(axes, strength, np.broadcast_to(RIGHT, (*matrix.shape, 3)), texts if few else None)
        label_ticks(axes, columns, rows)

    width, height = (1.5 + min(0.42 * size, 4.0) for size in matrix.shape[::-1])
    return render_svg(paint, (width, height), label)


def draw_class_scores(scores: Mapping[str, Sequence[float]], classes: Sequence[str], title: str, label: str) -> str:
    """Draws a score from 0 to 1 of every class, `{network: [classes]}`, a line for each class."""

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot(xlabel=title)
        lines = np.arange(len(classes))
        # Side by side within the line: equal scores would hide each other.
        shifts = np.linspace(-0.22, 0.22, len(scores)) if len(scores) > 1 else [0.0]
        for number, ((network, values), shift) in enumerate(zip(scores.items(), shifts, strict=True)):
            style = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
            axes.plot(values, lines + shift, ls="none", ms=5, label=shorten(network), **style)
        axes.set_yticks(lines, [shorten(name) for name in classes])
        axes.invert_yaxis()
        axes.set_xlim(right=1.01)
        figure.legend(fontsize=8, loc="outside lower center", ncols=min(len(scores), 4))

    return render_svg(paint, (4.2, 1.2 + 0.24 * len(classes)), label)


def draw_legend(colours: Sequence[str], names: Sequence[str], label: str) -> str:
    """Draws patches of colour with their names, in rows of six."""

    def paint(figure: "Figure") -> None:
        from matplotlib.patches import Patch

        patches = [Patch(facecolor=colour, edgecolor=FAINT, lw=0.5) for colour in colours]
        texts = [shorten(name) for name in names]
        figure.legend(patches, texts, loc="center", ncols=min(6, len(texts)), fontsize=9, columnspacing=1.2)

    return render_svg(paint, (8.0, 0.25 + 0.22 * -(-len(names) // 6)), label)


def draw_heatmap(axes: "Axes", strength: np.ndarray, colours: np.ndarray, texts: np.ndarray | None) -> None:
    """Fills cells, and writes in them.

    Args:
        axes: to draw into.
        strength: opacity, `[r, c]`.
        colours: `[r, c, 3]`.
        texts: `[r, c]`, or None to write nothing.
    """
    axes.imshow(np.concatenate([colours, strength[..., None]], -1), interpolation="none", aspect="auto")
    axes.grid(False)
    axes.tick_params(length=0)
    if texts is None:
        return
    size = 8 if len(strength) <= 12 else 6.5
    for row, column in np.argwhere(texts != ""):
        ink = "white" if strength[row, column] > 0.6 else INK
        axes.text(column, row, texts[row, column], ha="center", va="center", fontsize=size, color=ink)


def label_ticks(axes: "Axes", columns: Sequence[str], rows: Sequence[str]) -> None:
    """Writes the names of columns and rows, the former at an angle if they are long."""
    columns, rows = [shorten(name) for name in columns], [shorten(name) for name in rows]
    turned = max(map(len, columns), default=0) > 3
    axes.set_xticks(range(len(columns)), columns, rotation=40 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(range(len(rows)), rows)
    if turned:
        for tick in axes.get_xticklabels():
            tick.set_rotation_mode("anchor")


def shorten(name: str) -> str:
    """Shortens a name that would leave no room for the plot."""
    name = str(name)
    return name if len(name) <= 24 else name[:23] + "…"


def draw_reliability(bins: Mapping[str, Sequence], title: str, label: str) -> str:
    """Draws accuracy over confidence per bin, the gap between them, and how many examples each bin has.

    Args:
        bins: of the metric `reliability`: "edges" `[b + 1]`, and "count", "confidence" and "accuracy" `[b]`, the
            last two with None for an empty bin.
        title: of the plot.
        label: of the figure.
    """
    edges, count = np.asarray(bins["edges"], np.float64), np.asarray(bins["count"])
    confidence, accuracy = (np.asarray(bins[name], np.float64) for name in ("confidence", "accuracy"))
    left, width = edges[:-1], np.diff(edges)

    def paint(figure: "Figure") -> None:
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        full = count > 0
        bars = {"x": left[full], "width": width[full], "align": "edge"}
        top.bar(height=accuracy[full], color=(*RIGHT, 0.55), label="accuracy", **bars)
        gap = {"bottom": accuracy[full], "height": (confidence - accuracy)[full], "label": "gap"}
        top.bar(color="none", edgecolor=PALETTE[1], hatch="/////", lw=0.8, **gap, **bars)
        top.plot([0, 1], [0, 1], color=INK, ls="--", lw=1, label="calibrated")
        top.set(title=shorten(title), ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.01))
        figure.legend(fontsize=8, loc="outside lower center", ncols=3)
        bottom.bar(left, count, width, align="edge", color="#8b95a1")
        bottom.set(xlabel="confidence", ylabel="examples")

    return render_svg(paint, (3.4, 3.9), label)


def encode_png(image: np.ndarray, side: int = 96) -> bytes:
    """Returns a uint8 image `[h, w, c]`, c 1, 3 or 4, as a PNG, each pixel repeated until a side has `side`."""
    from PIL import Image

    image = image[..., 0] if image.shape[-1] == 1 else image
    times = max(1, round(side / max(image.shape[:2])))
    buffer = io.BytesIO()
    Image.fromarray(image.repeat(times, 0).repeat(times, 1)).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
