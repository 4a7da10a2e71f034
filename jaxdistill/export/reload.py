"""Exports read again: in a fresh process without jaxdistill, on real inputs, and compared with the network."""

import dataclasses
import importlib.util
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdistill.core import Variables
from jaxdistill.errors import UserError
from jaxdistill.export.predictor import Predictor

EQUAL = 0.999
"""Share of predictions that must be equal."""

CHUNK = 128
"""Examples of one call of the network here."""

CLOSE = 1e-3
"""Absolute and relative difference of values that count as equal, of predictions that are no classes."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Two programs on the same inputs.

    Attributes:
        program: that has read the export: its main library, or the reason why it was not run.
        examples: number of inputs.
        largest_difference: of a probability or value.
        equal_predictions: share of predictions that are equal.
    """

    program: str
    examples: int = 0
    largest_difference: float = 0.0
    equal_predictions: float = 1.0

    def to_text(self) -> str:
        """Returns a line for the log."""
        if not self.examples:
            return f"not read again: {self.program}"
        return (
            f"read again by {self.program} on {self.examples} examples: largest difference"
            f" {self.largest_difference:.2g}, equal predictions {self.equal_predictions:.2%}"
        )


def missing_modules(names: Sequence[str]) -> list[str]:
    """Returns those modules that are not installed."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def run_program(program: str, path: pathlib.Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Runs a program in a fresh process, on the CPU: `python PROGRAM PATH INPUTS.npz OUTPUTS.npz`.

    Args:
        program: its text.
        path: of the export.
        inputs: arrays by name.

    Raises:
        UserError: if it fails, with the last line of its error.
    """
    # The parent may hold the accelerator, and may be one of several processes.
    left = {key: x for key, x in os.environ.items() if not key.startswith(("PYTHON", "JAX_COORD", "JAX_NUM_PROC"))}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        (folder / "program.py").write_text(program, encoding="utf-8")
        np.savez(folder / "inputs.npz", **{key: np.asarray(x) for key, x in inputs.items()})
        words = [sys.executable, "program.py", str(path.absolute()), "inputs.npz", "outputs.npz"]
        environment = left | {"JAX_PLATFORMS": "cpu"}
        done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, errors="replace")
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:300]
            raise UserError(f"{path} must be readable without jaxdistill, got {reason!r}. Nothing was exported")
        with np.load(folder / "outputs.npz", allow_pickle=False) as outputs:
            return dict(outputs)


def predict(predictor: Predictor, variables: Variables, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns the network's outputs as a file has them, computed on the CPU."""
    with jax.default_device(_cpu()):
        variables = jax.tree.map(np.asarray, variables)
        function = jax.jit(predictor.outputs)
        count = len(next(iter(inputs.values())))
        starts = range(0, count, CHUNK)
        parts = [{name: x[start : start + CHUNK] for name, x in inputs.items()} for start in starts]
        return np.concatenate([np.asarray(function(variables, part)) for part in parts])


def _cpu() -> Any:
    """Returns the CPU, or the default device if JAX was started without it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


def compare(
    expected: np.ndarray, actual: np.ndarray, examples: Mapping[str, np.ndarray], *, program: str, predictions: str
) -> Report:
    """Compares outputs `[n, classes]`; of texts `[n, length, classes]`, those of padding left out.

    Args:
        expected: of the network.
        actual: of the export.
        examples: the inputs.
        program: that has made the second.
        predictions: "classes", or the distribution whose numbers they are.
    """
    if expected.shape != actual.shape:
        raise UserError(
            f"an export must output {list(expected.shape)}, got {list(actual.shape)} in {program}. Nothing was exported"
        )
    count = len(expected)
    if expected.ndim > 2 and "token_mask" in examples:
        is_token = examples["token_mask"] > 0
        expected, actual = expected[is_token], actual[is_token]
    difference = float(np.max(np.abs(expected - actual), initial=0.0))
    if predictions == "classes":
        equal = expected.argmax(-1) == actual.argmax(-1)
    else:
        equal = np.isclose(expected, actual, rtol=CLOSE, atol=CLOSE).all(-1)
    share = float(equal.mean()) if np.isfinite(actual).all() else 0.0
    return Report(program, count, difference, share)


def check_equal(path: pathlib.Path, report: Report) -> None:
    """Raises `UserError` if too few predictions are equal."""
    if report.equal_predictions < EQUAL:
        raise UserError(
            f"{path} must predict as the network in {EQUAL:.1%} of the examples, got"
            f" {report.equal_predictions:.2%} (largest difference {report.largest_difference:.3g}, {report.program})."
            " Nothing was exported"
        )
