"""Quantizes the students of every feature method on the digits, over seeds: after training, by training, distilled.

    python benchmarks/quantized_methods.py --workdir runs/quantized_methods --seeds 3 \\
        [--mode all] [--write docs/results/quantized_methods.json] [--config.KEY=VALUE ...]

All seeds are lanes of one run of `configs/digits/quantized_methods.py`; a finished run is not repeated. A row has the
accuracy on the test split of a method's student in each form, the mean over seeds with its standard deviation (n - 1),
and the outliers of its float32 student: the largest over layers of

    max over channels c of m_c / median over channels of m_c        m_c = max |x| over training images and places

for the inputs x of the layer, without the channels that are 0.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import results
import seeds

from jaxdistill.compress import layer_inputs
from jaxdistill.compress.view import Calibration
from jaxdistill.core import Batch, Variables
from jaxdistill.networks import Trained
from jaxdistill.pipeline.find_network import find_network
from jaxdistill.stages.compress import StageCalibration

CONFIG = "configs/digits/quantized_methods.py"
FORMS = ("", "int8", "int4", "qat", "qad")
COLUMNS = {
    "name": "method",
    "float32": "float32",
    "int8": "int8, after training",
    "int4": "int4, after training",
    "qat": "int4, trained",
    "qad": "int4, distilled",
    "outliers": "outliers",
}


def make_rows(runs: Sequence[seeds.Rows], outliers: Callable[[str, int], float]) -> list[dict[str, Any]]:
    """Makes a row for each method, by the accuracy that int4 leaves it.

    Args:
        runs: the rows of each seed.
        outliers: from a method and a seed to the outliers of its float32 student.
    """
    by_name = seeds.group_by_network(runs)
    methods = [name.removesuffix("_int4") for name in by_name if name.endswith("_int4")]

    def make_row(method: str) -> dict[str, Any]:
        row: dict[str, Any] = {"name": method}
        for form in FORMS:
            of_form = by_name[f"{method}_{form}" if form else method]
            row[form or "float32"] = results.summarize([seed["accuracy"] for seed in of_form])
        return row | {"outliers": results.summarize([outliers(method, seed) for seed in range(len(runs))])}

    return sorted(map(make_row, methods), key=lambda row: -row["int4"]["mean"])


def measure_outliers(workdir: pathlib.Path, method: str, seed: int) -> float:
    """Returns the outliers of the float32 student of a method and a seed."""
    finished = find_network(workdir, f"{method}#student@{seed}", None)
    source = finished.stage.networks["student"]
    assert isinstance(source, Trained)
    data = StageCalibration(finished.stage, source.module, source, count=8)
    return max(channel_ratios(data, finished.variables).values())


def channel_ratios(data: Calibration, variables: Variables) -> dict[str, float]:
    """Returns the ratio of the largest to the median maximum of a channel, for the inputs of each layer."""

    @jax.jit
    def maxima(variables: Variables, batch: Batch) -> dict[str, jax.Array]:
        channels: dict[str, jax.Array] = {}

        def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
            if layer_inputs.is_call(args, context):
                x = args[0]
                channels["/".join(context.module.path)] = jnp.max(jnp.abs(x), tuple(range(x.ndim - 1)))
            return call(*args, **kwargs)

        data.predict(variables, batch, record)
        return channels

    batches = [maxima(variables, batch) for batch in data.batches()]
    largest = {name: np.max([batch[name] for batch in batches], 0) for name in batches[0]}
    return {name: float(x.max() / np.median(x[x > 0])) for name, x in largest.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--mode", default="all")
    parser.add_argument("--write", type=pathlib.Path, help="a .json for the results, as in docs/results")
    given, flags = parser.parse_known_args()
    runs = seeds.run_lanes(f"{CONFIG}:{given.mode}", given.seeds, given.workdir, flags)
    rows = make_rows(runs, functools.partial(measure_outliers, given.workdir))
    results.write(given.write, {"": rows}, columns=COLUMNS)


if __name__ == "__main__":
    main()
