"""A step compiled with XLA's library of kernels for CPUs (YNNPACK) doing more or less of it, and with oneDNN's.

    python benchmarks/studies/fusion.py [--pairs resnet20 resnet32x4 encoder decoder] [--rounds 7] [--write FILE.json]

The steps are those of `residual_step.py` (live and cached teacher) and `transformer_step.py`. The options that this
project sets are in `jaxdistill/runtime/xla_options.py`. Elementwise chains are timed to learn the possible gain: the
library computes some of them wrongly (jax 0.10, 0.12), so nothing should be trained with them. oneDNN's kernels, from
jax 0.12 on, are experimental too; XLA_FLAGS=--xla_cpu_experimental_onednn_custom_call=true turns them on. All forms
must compute the same losses before anything is timed.
"""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill.runtime import allocator, xla_options
from jaxdistill.runtime.timing import time_interleaved

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
import our_steps
import residual_step
import results
import timing
import transformer_step

TRANSFORMERS = {"encoder": 16, "decoder": 8}
"""kind -> batch."""

PLAIN = "XLA's own choice"
KINDS = {
    PLAIN: None,
    "no convolutions": ("INDIVIDUAL_DOT", "REDUCE"),
    "and elementwise chains": ("INDIVIDUAL_DOT", "REDUCE", "INDIVIDUAL_CONVOLUTION", "ELTWISE"),
    "elementwise chains, no convolutions": ("INDIVIDUAL_DOT", "REDUCE", "ELTWISE"),
}
"""name -> the operations that the library computes."""

ONEDNN = {"xla_cpu_experimental_onednn_custom_call": True}


def list_options() -> dict[str, dict[str, Any]]:
    """Returns XLA's options by name."""
    options: dict[str, dict[str, Any]] = {}
    for name, kinds in KINDS.items():
        names = ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in kinds or ())
        options[name] = {xla_options.FUSION: names} if kinds else {}
    if jax.__version_info__ >= (0, 12):
        options |= {f"{PLAIN}, oneDNN": options[PLAIN] | ONEDNN}
    return options


def compile_with(steps: Any, options: dict[str, Any]) -> Any:
    """Returns the steps, compiled with these options."""
    program, cache = steps._single, []

    def step(*arguments: Any) -> Any:
        if not cache:
            cache.append(program.trace(*arguments).lower().compile(compiler_options=options))
        return cache[0](*arguments)

    steps._step = step
    return steps


def make_residual_forms(pair: str, folder: pathlib.Path) -> dict[str, Callable[[], Any]]:
    """Returns functions that make the steps of residual networks, by form."""
    flags = [
        f"--config.data.path={our_steps.write_images(folder, 512)}",
        "--config.batch=64",
        "--config.learning_rate=0.01",
    ]
    file = f"{residual_step.CONFIG}:{pair}"
    live = our_steps.build_stage(file, "live", flags)
    starts = residual_step.draw_weights(live)
    cached = our_steps.build_cached(file, flags, starts, folder / "cache")
    return {
        "live": lambda: our_steps.Steps.of_stage(live, starts),
        "cached": lambda: our_steps.Steps.of_stage(cached, starts),
    }


def make_transformer_form(kind: str) -> dict[str, Callable[[], Any]]:
    """Returns a function that makes the steps of transformers, by form."""
    shape = {"kind": kind, "layers": [6, 2], "batch": TRANSFORMERS[kind], "length": 128, "width": 384, "heads": 6}
    given = argparse.Namespace(**shape, hidden=1536, vocabulary=8192, dispatch=1)
    texts = transformer_step.Texts(4 * given.batch, given.batch, given.length, given.vocabulary)
    tokens = jnp.asarray(texts.resident["tokens"][:1])
    modules = {
        n: transformer_step.make_module(given, k) for n, k in zip(("teacher", "student"), given.layers, strict=True)
    }
    starts = {name: jax.jit(module.init)(jax.random.key(0), tokens) for name, module in modules.items()}
    return {"live": lambda: transformer_step.make_steps(given, texts, starts)}


def main() -> None:
    allocator.keep_freed()  # as every launch does
    xla_options.select_options = lambda *_: None  # the options are given here
    parser = timing.make_parser(__doc__, rounds=7)
    parser.add_argument("--pairs", nargs="+", default=["resnet20", "resnet32x4", *TRANSFORMERS])
    given = parser.parse_args()
    if jax.default_backend() != "cpu":
        raise SystemExit("these are options for CPUs; nothing was measured")
    tables = {}
    for pair in given.pairs:
        with tempfile.TemporaryDirectory() as folder:
            forms = (
                make_transformer_form(pair) if pair in TRANSFORMERS else make_residual_forms(pair, pathlib.Path(folder))
            )
            for form, make in forms.items():
                every = {name: compile_with(make(), options) for name, options in list_options().items()}
                for name, steps in every.items():
                    steps.run(3)
                    our_steps.check(name, steps.losses, every[PLAIN].losses)
                calls = {name: (lambda steps=steps: steps.run(2)) for name, steps in every.items()}
                seconds = time_interleaved(calls, given.rounds)
                batch, unit = TRANSFORMERS.get(pair, 64), "texts" if pair in TRANSFORMERS else "images"
                tables[f"{pair}, {form}, batch {batch}"] = timing.compare(seconds, PLAIN, 2 * batch, unit=unit)
    results.write(given.write, tables)


if __name__ == "__main__":
    main()
