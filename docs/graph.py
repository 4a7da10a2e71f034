"""Picture of a config: networks, the terms that compare them, and the step, as docs/graph.svg.

    python docs/graph.py [--config configs/digits/kd.py] [--write docs/graph.svg]

Gradients flow back along solid arrows. They stop at dashed ones: inputs, labels, and the outputs of a teacher.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jaxdistill.config import load, registry
from jaxdistill.report import figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROOT = pathlib.Path(__file__).parents[1]
BLUE, ORANGE, GREEN, GREY = figures.PALETTE[0], figures.PALETTE[1], figures.PALETTE[2], figures.PALETTE[7]
DASHES = (0, (4, 3))
COLUMNS = {"batch": 0.0, "networks": 2.8, "terms": 6.5, "loss": 9.6, "step": 11.9}
"""The x of each column of boxes."""


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle with a title and a second line."""

    x: float
    y: float
    title: str
    note: str
    colour: str
    width: float = 1.7
    height: float = 0.74

    @property
    def left(self) -> tuple[float, float]:
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y

    def draw(self, axes: "Axes") -> None:
        from matplotlib.patches import FancyBboxPatch

        corner = (self.x - self.width / 2, self.y - self.height / 2)
        style = "round,pad=0,rounding_size=0.12"
        axes.add_patch(
            FancyBboxPatch(
                corner, self.width, self.height, boxstyle=style, fc=f"{self.colour}30", ec=self.colour, lw=1.4
            )
        )
        shift = 0.15 if self.note else 0.0
        axes.text(self.x, self.y + shift, self.title, ha="center", va="center", weight="bold", fontsize=9.5)
        axes.text(self.x, self.y - 0.17, self.note, ha="center", va="center", fontsize=7.5)


def connect(axes: "Axes", start: tuple[float, float], end: tuple[float, float], *, dashed: bool = False) -> None:
    """Draws an arrow, dashed if no gradient flows along it."""
    style = {"linestyle": DASHES, "color": figures.FAINT} if dashed else {"color": figures.INK}
    arrow = {"arrowstyle": "-|>", "shrinkA": 2, "shrinkB": 2, "lw": 1.3, "mutation_scale": 11} | style
    axes.annotate("", end, start, arrowprops=arrow)


def draw_line(axes: "Axes", points: Sequence[tuple[float, float]], text: str, *, dashed: bool = False) -> None:
    """Draws a line through points, with a text above the middle of its last part."""
    axes.plot(
        *zip(*points, strict=True),
        color=figures.FAINT if dashed else figures.INK,
        lw=1.3,
        ls=(0, (4, 3)) if dashed else "-",
    )
    start, end = points[-2:]
    axes.text((start[0] + end[0]) / 2, end[1] + 0.08, text, ha="center", va="bottom", fontsize=7.5)


def spread(count: int, gap: float = 1.5) -> list[float]:
    """Returns the y of boxes of a column, the first on top, centred at 0."""
    return [gap * ((count - 1) / 2 - number) for number in range(count)]


def place_networks(networks: Mapping[str, Mapping[str, Any]]) -> dict[str, Box]:
    """Returns a box for each network, those that learn at the bottom."""
    boxes, order = {}, sorted(networks, key=lambda name: networks[name]["source"] == "trained")
    for name, y in zip(order, spread(len(order)), strict=True):
        spec, source = networks[name], networks[name]["source"]
        note = f"{source} {spec['model']}" if "model" in spec else source
        boxes[name] = Box(COLUMNS["networks"], y, name, note, BLUE if source == "trained" else GREY, width=2.1)
    return boxes


def place_terms(terms: Mapping[str, Mapping[str, Any]]) -> dict[str, Box]:
    """Returns a box for each term, those with a teacher on top."""
    order = sorted(terms, key=lambda name: not uses_teacher(terms[name]))
    return {
        name: Box(COLUMNS["terms"], y, name, f"{terms[name]['method']}, weight {terms[name]['weight']:g}", ORANGE, 2.3)
        for name, y in zip(order, spread(len(order)), strict=True)
    }


def uses_teacher(term: Mapping[str, Any]) -> bool:
    """Whether a term compares a student with a teacher, rather than with labels alone."""
    return bool(term.get("teacher", registry.find("method", term["method"]).needs_teacher))


def draw_graph(networks: Mapping[str, Mapping[str, Any]], terms: Mapping[str, Mapping[str, Any]], label: str) -> str:
    """Returns the picture as SVG.

    Args:
        networks: the section of a config, `{name: {"source", "model", ...}}`.
        terms: the section of a config, `{name: {"method", "weight", ...}}`.
        label: of the figure, for screen readers.
    """
    batch = Box(COLUMNS["batch"], 0.0, "batch", "images, labels", GREEN)
    sources, losses = place_networks(networks), place_terms(terms)
    loss = Box(COLUMNS["loss"], 0.0, "loss", "weighted sum", ORANGE)
    step = Box(COLUMNS["step"], 0.0, "step", "gradient, update", BLUE)
    rows = max(len(sources), len(losses))
    bottom = -0.75 * rows - 0.25

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for box in (batch, *sources.values(), *losses.values(), loss, step):
            box.draw(axes)
        for box in sources.values():
            connect(axes, batch.right, box.left, dashed=True)
        for name, box in losses.items():
            student, teacher = terms[name].get("student", "student"), terms[name].get("teacher") or "teacher"
            connect(axes, sources[student].right, box.left)
            if uses_teacher(terms[name]):
                connect(axes, sources[teacher].right, box.left, dashed=True)
            else:
                turn = (box.left[0] - 0.9, 0.0)
                draw_line(axes, [batch.right, turn], "labels", dashed=True)
                connect(axes, turn, box.left, dashed=True)
            connect(axes, box.right, loss.left)
        connect(axes, loss.right, step.left)
        trained = min((sources[name] for name in networks if networks[name]["source"] == "trained"), key=lambda b: b.y)
        draw_line(axes, [(step.x, -step.height / 2), (step.x, bottom), (trained.x, bottom)], "new weights")
        connect(axes, (trained.x, bottom), (trained.x, trained.y - trained.height / 2))
        axes.text(batch.left[0], bottom, "dashed: no gradient", ha="left", va="center", fontsize=7.5)
        axes.set(xlim=(-1.0, 13.0), ylim=(bottom - 0.2, 0.75 * rows))
        axes.axis("off")

    return figures.render_svg(paint, (9.0, 0.45 + 1.0 * rows), label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/digits/kd.py")
    parser.add_argument("--write", type=pathlib.Path, default=ROOT / "docs" / "graph.svg")
    given = parser.parse_args()
    config = load.read(given.config).to_dict()
    label = f"Networks, terms and step of {given.config}"
    given.write.write_text(draw_graph(config["networks"], config["terms"], label) + "\n")


if __name__ == "__main__":
    main()
