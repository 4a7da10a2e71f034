"""What each part of the convolutional step on a CPU gains: oneDNN's calls by kind, and BatchNorm's derivative.

    python benchmarks/studies/onednn_parts.py [--pairs resnet20 resnet32x4] [--rounds 7] [--write FILE.json]

The step is that of `residual_step.py` with a live teacher. Each form adds a part to the one before it, from XLA's
convolutions and Linen's derivative of BatchNorm to the step as it is. All forms must compute the same losses before
anything is timed. `ratio` is the speed as a multiple of the first form's, `gain` that of the form before it.
"""

import contextlib
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax

from jaxdistill.models import normalization
from jaxdistill.runtime import allocator
from jaxdistill.runtime.onednn import fusion, operation, program
from jaxdistill.runtime.timing import time_interleaved

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import our_steps
import residual_step
import results
import timing

BATCH, STEPS = 64, 4
KINDS = (operation.FORWARD, operation.BY_WEIGHTS, operation.BY_SOURCE)
FORMS = {
    "XLA's convolutions, Linen's BatchNorm": ((), False, False),
    "BatchNorm's derivative with two sums": ((), True, False),
    "oneDNN's forward convolutions": (KINDS[:1], True, False),
    "oneDNN's gradients by weights": (KINDS[:2], True, False),
    "oneDNN's gradients by inputs": (KINDS, True, False),
    "biases, sums and ReLUs in the calls": (KINDS, True, True),
}
"""The kinds of calls, whether BatchNorm has its own derivative, and whether calls have what follows them."""


@contextlib.contextmanager
def limit(kinds: tuple[int, ...], derives: bool, fuses: bool) -> Iterator[None]:
    """Has programs that are traced meanwhile consist of these parts alone."""
    read, find_chain = operation.read, program.find_chain

    def read_some(*operands: Any) -> operation.Convolution | None:
        found = read(*operands)
        return found if found is not None and found.geometry.kind in kinds else None

    def find_some(place: int, convolution: Any, uses: fusion.Uses, taken: Any) -> fusion.Chain:
        if fuses:
            return find_chain(place, convolution, uses, taken)
        return fusion.Chain((place,), (), 0, uses.equations[place].outvars[0])

    normalize = normalization.normalize if derives else normalization.normalize.fun
    with (
        mock.patch.object(operation, "read", read_some),
        mock.patch.object(program, "find_chain", find_some),
        mock.patch.object(normalization, "normalize", normalize),
    ):
        yield


def measure(pair: str, folder: pathlib.Path, rounds: int) -> list[dict[str, Any]]:
    """Measures all forms of a pair; returns their rows."""
    flags = [f"--config.data.path={our_steps.write_images(folder, 512)}", f"--config.batch={BATCH}"]
    flags += [f"--config.learning_rate={residual_step.RATE}", "--config.convolutions=onednn"]
    live = our_steps.build_stage(f"{residual_step.CONFIG}:{pair}", "live", flags)
    starts, forms = residual_step.draw_weights(live), {}
    for name, parts in FORMS.items():
        steps = our_steps.Steps.of_stage(live, starts)
        with limit(*parts):
            steps.run(3)
        forms[name] = steps
        our_steps.check(name, steps.losses, next(iter(forms.values())).losses)
    seconds = time_interleaved({name: (lambda steps=steps: steps.run(STEPS)) for name, steps in forms.items()}, rounds)
    rows = timing.compare(seconds, next(iter(FORMS)), STEPS * BATCH)
    names = [*FORMS]
    for row, before, name in zip(rows[1:], names, names[1:], strict=False):
        row["gain"] = statistics.median(old / new for old, new in zip(seconds[before], seconds[name], strict=True))
    return rows


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=7)
    parser.add_argument("--pairs", nargs="+", default=["resnet20", "resnet32x4"], choices=residual_step.residual.PAIRS)
    given = parser.parse_args()
    if jax.default_backend() != "cpu":
        raise SystemExit("these are convolutions of CPUs; nothing was measured")
    tables = {}
    for pair in given.pairs:
        with tempfile.TemporaryDirectory() as folder:
            tables[pair] = measure(pair, pathlib.Path(folder), given.rounds)
        results.write(given.write, tables)


if __name__ == "__main__":
    main()
