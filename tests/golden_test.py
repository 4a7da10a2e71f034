"""Our losses against numbers that the authors' own code produced: values and gradients, in float64 and float32.

The cases are those of the folder JAXDISTILL_GOLDEN, else `../shared/golden`, else the small ones copied into
`tests/golden`; `golden_tables` says which function of ours each variant is.
"""

import collections
import json
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import golden_tables
from conftest import SHARED

COPIED = pathlib.Path(__file__).parent / "golden"


def folder():
    given = os.environ.get("JAXDISTILL_GOLDEN")
    if given:
        return pathlib.Path(given)
    return SHARED / "golden" if (SHARED / "golden").is_dir() else COPIED


HOST = {"trl_gold"}
"""Variants whose row aligns tokens on the host, and so cannot be compiled."""

TABLE = golden_tables.table()
CASES = json.loads((folder() / "cases.json").read_text())["cases"]
ROWS = [TABLE.get((case["loss"], case["variant"])) for case in CASES]


def close(got, expected, tolerance, what):
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    assert got.shape == expected.shape, f"{what}: shape {got.shape}, not {expected.shape}"
    excess = np.abs(got - expected) - tolerance["atol"] - tolerance["rtol"] * np.abs(expected)
    assert (excess <= 0).all(), f"{what}: off by {np.max(excess):.3g} more than allowed"


def reason(case):
    """Returns why a case is not strict."""
    return case.get("notes") or "the value is not determined"


def inputs(case, precision):
    """The arrays of a case by name, floats in `precision`."""
    arrays = np.load(folder() / case["file"])
    given = {name: arrays[spec["key"]] for name, spec in case["inputs"].items()}
    wanted = {n: precision if np.issubdtype(x.dtype, np.floating) else "int32" for n, x in given.items()}
    return {
        n: jnp.asarray(x.astype(wanted[n])) for n, x in given.items()
    }  # astype of JAX would be a program of its own


def run(case, precision):
    """Returns the results of our function, by name, and the gradients of its (summed) loss."""
    x, function = inputs(case, precision), TABLE[case["loss"], case["variant"]].function

    def summed(wanted, given):
        result = function(given | wanted, **case["hyperparameters"])
        results = result if isinstance(result, dict) else {"loss": result}
        return jnp.sum(results["loss"]), results

    wanted = {name: x[name] for name in case["grads"]}
    gradient = jax.value_and_grad(summed, has_aux=True)
    (_, results), grads = (gradient if case["variant"] in HOST else jax.jit(gradient))(wanted, x)
    return results, grads


LONG = {
    ("crd", "repdistiller"),
    ("dml", "official_tf"),
    ("ft", "repdistiller_full"),
    ("kdsvd", "mdistiller"),
    ("mlkd", "logit_std_step"),
    ("uld", "trl_gold"),
}
"""Variants of a loss that take seconds, and have a shorter one beside them."""

FIRST = {(case["loss"], case["variant"]): case["id"] for case in reversed(CASES)}
DEFAULT = {identifier for variant, identifier in FIRST.items() if variant not in LONG}
"""The first case of each other variant, tested by default."""


@pytest.mark.parametrize("precision", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case["id"], marks=[] if case["id"] in DEFAULT else pytest.mark.slow) for case in CASES],
)
def test_golden(case, precision):
    assert (case["loss"], case["variant"]) in TABLE, f"no row in golden_tables for {case['loss']}, {case['variant']}"
    arrays = np.load(folder() / case["file"])
    with jax.enable_x64(precision == "float64"):
        results, grads = run(case, precision)
        for name, value in [*results.items(), *grads.items()]:
            assert np.isfinite(value).all(), f"{name} is not finite"
        if not case["strict"]:
            pytest.skip(f"not strict: {reason(case)}; ours is finite")
        assert results["loss"].dtype == precision
        left = TABLE[case["loss"], case["variant"]].leaves
        for name, spec in case["expected"].items():
            if name in results or not name.startswith(left):
                close(results[name], arrays[spec["key"]], case["tolerance"]["expected"][name][precision], name)
        for name, spec in case["grads"].items():
            bound = case["tolerance"]["grads"][name][precision]
            close(grads[name], arrays[spec["key"]], bound, f"gradient of {name}")


def test_most_strict_cases_are_matched_and_the_others_are_named(capsys):
    """So are the cases whose value is not determined, of which only finite results are required."""
    strict = [(c, row) for c, row in zip(CASES, ROWS, strict=True) if c["strict"]]
    assert all(row is not None for _, row in strict)
    excused = [(c, row) for c, row in strict if row.excuses(c["hyperparameters"])]
    excuses = collections.Counter(f"{c['loss']}, {c['variant']}: {row.excuse}" for c, row in excused)
    loose = collections.Counter(f"{c['loss']}, {c['variant']}: {reason(c)}" for c in CASES if not c["strict"])
    with capsys.disabled():
        print(f"\n{len(strict) - len(excused)} of {len(strict)} strict golden cases are matched; excused:")
        print("\n".join(f"  {count} x {text}" for text, count in excuses.items()))
        print(f"{loose.total()} of {len(CASES)} golden cases are not strict, and only finite:")
        print("\n".join(f"  {count} x {text}" for text, count in loose.items()))
    assert len(excused) <= 0.1 * len(strict)
    assert loose.total() <= 0.1 * len(CASES)
