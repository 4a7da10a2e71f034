"""A step compiled with XLA's library of kernels for CPUs (YNNPACK) doing more or less of it, and with oneDNN's.

    python benchmarks/fusion.py [--pairs resnet20 resnet32x4 encoder decoder] [--rounds 7] [--write FILE.json]

The same steps as in `residual_step.py` (live and cached teacher) and `transformer_step.py`. What ours does is in
`jaxdistill/runtime/xla_options.py`. Elementwise chains are timed to know what there would be to gain: the library gets
some of them wrong (jax 0.10, 0.12), and nothing should be trained so. oneDNN's kernels, from jax 0.12 on, are
an experiment of XLA's too; XLA_FLAGS=--xla_cpu_experimental_onednn_custom_call=true asks for them. All must say the
same losses before anything is timed.
"""

import argparse
import importlib
import pathlib
import sys
import tempfile
from typing import Any

import jax
import jax.numpy as jnp

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "configs")]
timing, our_steps, residual, residual_step, transformer_step = (
    importlib.import_module(name) for name in ("timing", "our_steps", "residual", "residual_step", "transformer_step")
)

from jaxdistill.runtime import allocator, xla_options  # noqa: E402

TRANSFORMERS = {"encoder": 16, "decoder": 8}
"""kind -> batch."""

PLAIN = "XLA's own choice"
KINDS = {
    PLAIN: None,
    "no convolutions": ("INDIVIDUAL_DOT", "REDUCE"),
    "and elementwise chains": ("INDIVIDUAL_DOT", "REDUCE", "INDIVIDUAL_CONVOLUTION", "ELTWISE"),
    "elementwise chains, no convolutions": ("INDIVIDUAL_DOT", "REDUCE", "ELTWISE"),
}
"""what -> what the library does."""

ONEDNN = {"xla_cpu_experimental_onednn_custom_call": True}


def told() -> dict[str, dict[str, Any]]:
    """what -> XLA's options."""
    found: dict[str, dict[str, Any]] = {}
    for what, kinds in KINDS.items():
        names = ",".join(f"LIBRARY_FUSION_TYPE_{kind}" for kind in kinds or ())
        found[what] = {xla_options.FUSION: names} if kinds else {}
    if jax.__version_info__ >= (0, 12):
        found |= {f"{PLAIN}, oneDNN": found[PLAIN] | ONEDNN}
    return found


def compiled(steps: Any, said: dict[str, Any]) -> Any:
    """The same steps with these options."""
    program, made = steps._single, {}

    def step(*arguments):
        if not made:
            made["it"] = program.trace(*arguments).lower().compile(compiler_options=said)
        return made["it"](*arguments)

    steps._step = step
    return steps


def residual_forms(pair: str, folder: pathlib.Path) -> dict[str, Any]:
    """form -> a function that makes its steps, of residual networks."""
    flags = [f"--config.data.path={our_steps.images(folder, 512)}", "--config.batch=64", "--config.rate=0.01"]
    file = f"{residual_step.CONFIG}:{pair}"
    live = our_steps.stage(file, "live", flags)
    starts = residual_step.weights(live)
    cached = our_steps.cached(file, flags, starts, folder / "cache")
    return {
        "live": lambda: our_steps.Steps.of_stage(live, starts),
        "cached": lambda: our_steps.Steps.of_stage(cached, starts),
    }


def transformer_form(kind: str, **_: Any) -> dict[str, Any]:
    """The same of transformers."""
    shape = {"kind": kind, "layers": [6, 2], "batch": TRANSFORMERS[kind], "length": 128, "width": 384, "heads": 6}
    given = argparse.Namespace(**shape, hidden=1536, vocabulary=8192, dispatch=1)
    texts = transformer_step.Texts(4 * given.batch, given.batch, given.length, given.vocabulary)
    tokens = jnp.asarray(texts.held["tokens"][:1])
    made = {n: transformer_step.module(given, k) for n, k in zip(("teacher", "student"), given.layers, strict=True)}
    starts = {name: jax.jit(module.init)(jax.random.key(0), tokens) for name, module in made.items()}
    return {"live": lambda: transformer_step.ours(given, texts, starts)}


def main() -> None:
    allocator.keep_freed()  # as every launch does
    xla_options.of = lambda *_: None  # what is compared is given here
    parser = timing.parser(__doc__, rounds=7)
    parser.add_argument("--pairs", nargs="+", default=["resnet20", "resnet32x4", *TRANSFORMERS])
    given = parser.parse_args()
    if jax.default_backend() != "cpu":
        raise SystemExit("these are options for CPUs; nothing was measured")
    tables = {}
    for pair in given.pairs:
        with tempfile.TemporaryDirectory() as folder:
            forms = transformer_form(pair) if pair in TRANSFORMERS else residual_forms(pair, pathlib.Path(folder))
            for form, make in forms.items():
                every = {what: compiled(make(), said) for what, said in told().items()}
                for what, one in every.items():
                    one.run(3)
                    our_steps.check(what, one.losses, every[PLAIN].losses)
                calls = {what: (lambda one=one: one.run(2)) for what, one in every.items()}
                seconds = timing.interleaved(calls, given.rounds)
                batch, unit = TRANSFORMERS.get(pair, 64), "texts" if pair in TRANSFORMERS else "images"
                tables[f"{pair}, {form}, batch {batch}"] = timing.compared(seconds, PLAIN, 2 * batch, unit=unit)
    timing.write(given.write, tables)


if __name__ == "__main__":
    main()
