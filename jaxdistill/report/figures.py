"""Figures as strings of SVG, and images as PNG: the same for the report, the docs and a README.

Each function takes plain numbers and `label`, which is what a screen reader says and what makes the ids of
the figure its own: no two figures of a page should share it. Ink is the SVG's `currentColor` and grounds are
clear, so that a figure reads on a light and on a dark page. The same input gives the same bytes.
"""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

PALETTE = ("#3b82f6", "#e8762b", "#27a567", "#a06ee1", "#e0526a", "#12a5b5", "#b08a2e", "#8b95a1")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, FAINT = "#010203", "#040506"  # replaced by currentColor, whose value only the page knows
RIGHT, WRONG = (
    (0.231, 0.510, 0.965),
    (0.910, 0.463, 0.169),
)  # blue and orange differ for colour-blind eyes too

SETTINGS = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # carried by matplotlib, hence the same layout everywhere
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


def draw(paint, size: tuple[float, float], label: str) -> str:
    """Returns what `paint(figure)` paints as an SVG of `size` inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(SETTINGS | {"svg.hashsalt": label}):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        text = io.StringIO()
        nothing = dict.fromkeys(["Date", "Creator", "Format", "Type"])
        figure.savefig(text, format="svg", metadata=nothing)
    svg = text.getvalue()[text.getvalue().index("<svg") :]
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # figure_1, text_2: unused, and not unique on a page
    svg = re.sub(r' transform="rotate\(-0 [^"]*"', "", svg).replace("font-family: 'DejaVu Sans'; ", "")
    svg = svg.replace(INK, "currentColor").replace(FAINT, "rgba(128,138,150,.55)")
    name = escape(label)
    return svg.replace("<svg ", f'<svg class="figure" role="img" aria-label="{name}" ', 1).replace(
        ">", f">{STYLE}<title>{name}</title>", 1
    )


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    label: str,
    x: str = "step",
    y: str = "",
    emphasis: str = "",
) -> str:
    """Draws `{name: (x values, y values)}` as lines; the one named `emphasis` is thick and in ink.

    The y axis is logarithmic where all values are positive and span a factor of more than 50. A single
    line whose name is `y` needs no legend.
    """

    def paint(figure):
        axes = figure.add_subplot()
        others = [name for name in series if name != emphasis]
        for name, (xs, ys) in series.items():
            place = others.index(name) if name in others else 0
            look = {
                "color": PALETTE[place % len(PALETTE)],
                "linestyle": STYLES[place % len(STYLES)],
                "lw": 1.4,
            }
            if name == emphasis:
                look = {"color": INK, "lw": 2.2, "zorder": 1.9}
            axes.plot(xs, ys, label=shown(name), marker="o" if len(xs) < 3 else None, ms=4, **look)
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

    return draw(paint, (3.9, 2.8), label)


def confusion(counts: Sequence[Sequence[int]], classes: Sequence[str], title: str, label: str) -> str:
    """Draws counts `[classes][classes]`, a row per true class; the colour is the share of the row.

    Blue is right and orange is wrong, from 0 to 1 in every figure, so that networks compare. The opacity is
    the square root of the share, for one mistake in fifty to be seen. Up to 20 classes, counts are written.
    """
    counts = np.asarray(counts)
    share = counts / np.maximum(counts.sum(-1, keepdims=True), 1)
    written = np.where(counts > 0, counts.astype(str), "")

    def paint(figure):
        axes = figure.add_subplot(title=shown(title), xlabel="predicted", ylabel="true")
        colours = np.where(np.eye(len(counts), dtype=bool)[..., None], RIGHT, WRONG)
        heat(axes, np.sqrt(share), colours, written if len(counts) <= 20 else None)
        if len(counts) <= 20:
            name_ticks(axes, classes, classes)

    side = 3.6 if len(counts) <= 12 else 5.2
    return draw(paint, (side, side), label)


def agreement(share: Sequence[Sequence[float]], names: Sequence[str], label: str) -> str:
    """Draws a symmetric matrix of shares of equal predictions, coloured from its least value to 1."""
    share = np.asarray(share, np.float64)
    least = np.nanmin(share)
    strength = np.where(np.eye(len(share), dtype=bool), 0.0, (share - least) / max(1 - least, 1e-9) * 0.8 + 0.1)

    def paint(figure):
        axes = figure.add_subplot()
        written = np.vectorize(lambda value: f"{value:.4f}")(share)
        heat(axes, strength, np.broadcast_to(RIGHT, (*share.shape, 3)), written)
        name_ticks(axes, names, names)

    side = 1.8 + 0.62 * len(names)
    return draw(paint, (side, side * 0.85), label)


def alignment(
    values: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    row_title: str,
    column_title: str,
    label: str,
) -> str:
    """Draws how alike two networks' taps are, `[rows][columns]` from 0 (clear) to 1 (full), None left empty.

    Up to 12 taps, numbers are written.
    """
    values = np.asarray(values, np.float64)
    few = max(values.shape) <= 12

    def paint(figure):
        axes = figure.add_subplot(xlabel=shown(column_title), ylabel=shown(row_title))
        written = np.vectorize(lambda value: f"{value:.2f}" if np.isfinite(value) else "", otypes=[object])(values)
        strength = np.nan_to_num(values).clip(0, 1)
        heat(axes, strength, np.broadcast_to(RIGHT, (*values.shape, 3)), written if few else None)
        name_ticks(axes, columns, rows)

    return draw(paint, tuple(1.5 + min(0.42 * size, 4.0) for size in values.shape[::-1]), label)


def by_class(scores: Mapping[str, Sequence[float]], classes: Sequence[str], what: str, label: str) -> str:
    """Draws a score from 0 to 1 of every class, `{network: [classes]}`, a line for each class."""

    def paint(figure):
        axes = figure.add_subplot(xlabel=what)
        places = np.arange(len(classes))
        # Side by side within the line: equal scores would hide each other.
        shifts = np.linspace(-0.22, 0.22, len(scores)) if len(scores) > 1 else [0.0]
        for number, ((network, values), shift) in enumerate(zip(scores.items(), shifts, strict=True)):
            look = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
            axes.plot(values, places + shift, ls="none", ms=5, label=shown(network), **look)
        axes.set_yticks(places, [shown(name) for name in classes])
        axes.invert_yaxis()
        axes.set_xlim(right=1.01)
        figure.legend(fontsize=8, loc="outside lower center", ncols=min(len(scores), 4))

    return draw(paint, (4.2, 1.2 + 0.24 * len(classes)), label)


def heat(axes, strength: np.ndarray, colours: np.ndarray, written: np.ndarray | None) -> None:
    """Fills cells with `colours` `[r, c, 3]` at opacity `strength` `[r, c]` and writes in them.

    `written` is text, `[r, c]`, or None to write nothing.
    """
    axes.imshow(np.concatenate([colours, strength[..., None]], -1), interpolation="none", aspect="auto")
    axes.grid(False)
    axes.tick_params(length=0)
    if written is None:
        return
    small = 8 if len(strength) <= 12 else 6.5
    for row, column in np.argwhere(written != ""):
        ink = "white" if strength[row, column] > 0.6 else INK
        axes.text(column, row, written[row, column], ha="center", va="center", fontsize=small, color=ink)


def name_ticks(axes, columns: Sequence[str], rows: Sequence[str]) -> None:
    columns, rows = [shown(name) for name in columns], [shown(name) for name in rows]
    upright = max(map(len, columns), default=0) > 3
    axes.set_xticks(range(len(columns)), columns, rotation=40 if upright else 0, ha="right" if upright else "center")
    axes.set_yticks(range(len(rows)), rows)
    if upright:
        for tick in axes.get_xticklabels():
            tick.set_rotation_mode("anchor")


def shown(name: str) -> str:
    """Shortens a name that would leave no room for the plot."""
    name = str(name)
    return name if len(name) <= 24 else name[:23] + "…"


def reliability(bins: Mapping[str, Sequence], title: str, label: str) -> str:
    """Draws accuracy over confidence per bin, the gap between them, and how many examples each bin has.

    Args:
        bins: what the metric `reliability` gives: "edges" `[b + 1]`, and "count", "confidence" and "accuracy"
            `[b]`, the last two with None for an empty bin.
    """
    edges, count = np.asarray(bins["edges"], np.float64), np.asarray(bins["count"])
    confidence, accuracy = (np.asarray(bins[name], np.float64) for name in ("confidence", "accuracy"))
    left, width = edges[:-1], np.diff(edges)

    def paint(figure):
        top, bottom = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        full = count > 0
        place = {"x": left[full], "width": width[full], "align": "edge"}
        top.bar(height=accuracy[full], color=(*RIGHT, 0.55), label="accuracy", **place)
        gap = {"bottom": accuracy[full], "height": (confidence - accuracy)[full], "label": "gap"}
        top.bar(color="none", edgecolor=PALETTE[1], hatch="/////", lw=0.8, **gap, **place)
        top.plot([0, 1], [0, 1], color=INK, ls="--", lw=1, label="calibrated")
        top.set(title=shown(title), ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.01))
        figure.legend(fontsize=8, loc="outside lower center", ncols=3)
        bottom.bar(left, count, width, align="edge", color="#8b95a1")
        bottom.set(xlabel="confidence", ylabel="examples")

    return draw(paint, (3.4, 3.9), label)


def png(image: np.ndarray, side: int = 96) -> bytes:
    """Returns a uint8 image `[h, w, c]`, c 1 or 3, as a PNG, each pixel repeated until a side has `side`."""
    from PIL import Image

    image = image[..., 0] if image.shape[-1] == 1 else image
    times = max(1, round(side / max(image.shape[:2])))
    held = io.BytesIO()
    Image.fromarray(image.repeat(times, 0).repeat(times, 1)).save(held, format="PNG", optimize=True)
    return held.getvalue()
