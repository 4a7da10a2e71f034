"""Cost of lanes: several runs of a stage in one program against one of them, by form, in steps of the real loop.

    python benchmarks/lanes.py [--lanes 8] [--rounds 15] [--cases mlp resnet8] \\
        [--forms vmap unroll] [--write FILE.json]

Cases: `mlp`, the student of configs/digits/kd.py with its teacher, on one stream of data; `streams`, the same with
batches of its own for each lane; `resnet8`, the digits' teacher, taught by labels. A round is some steps of each form
in turn. The results are medians over rounds of the time of a step and of its ratio to one lane in the same round. A
ratio below the number of lanes saves time over separate runs, start-up and compilation not counted.
"""

import argparse
import dataclasses
import statistics
import time
from typing import Any

import jax
import results
import timing

from jaxdistill.build import resolve
from jaxdistill.build.stage import Stage
from jaxdistill.config import load as configs
from jaxdistill.config.sweep import SweepConfig
from jaxdistill.runtime import allocator
from jaxdistill.train import mesh
from jaxdistill.train.loop import compile_steps

CASES = {
    "mlp": ("configs/digits/kd.py", "distil", {"seed": 0}),
    "streams": ("configs/digits/kd.py", "distil", {"seed": -1}),
    "resnet8": ("configs/digits/kd.py", "teacher", {"seed": 0}),
}
"""case -> config, stage, and other settings of its data."""


class Steps:
    """A stage's steps as in the loop: feed, dispatch, fetch the metrics of the step before."""

    def __init__(self, stage: Stage):
        runs = stage.runs
        placed, loader = runs.shardings(), runs.loader()
        teachers = jax.jit(stage.init)()[1]  # random weights cost the same
        self.state = jax.jit(runs.init, out_shardings=placed[0])(teachers)
        self.frozen = runs.for_inference(teachers)
        self.held = jax.device_put(dict(loader.resident), mesh.replicated(stage.mesh))
        self.step = compile_steps(runs.step(), loader.make_batch, stage.mesh, placed[0])
        self.feeds, self.leading, self.mesh = loader.step_inputs(0, 1 << 30), loader.leading, stage.mesh
        self.pending, began = None, time.perf_counter()
        self.run(1)
        self.compiled = time.perf_counter() - began

    def run(self, count: int) -> float:
        """Takes steps and returns the seconds of one."""
        began = time.perf_counter()
        for _ in range(count):
            inputs = mesh.put(self.mesh, next(self.feeds), self.leading)
            self.state, metrics = self.step(self.state, self.frozen, self.held, inputs)
            jax.device_get(self.pending)
            self.pending = metrics
        jax.block_until_ready(self.state)
        return (time.perf_counter() - began) / count


def build(case: str, count: int, form: str = "") -> Stage:
    """Builds a stage in `count` lanes of seeds; one is the ordinary run."""
    file, name, data = CASES[case]
    settings = configs.load(file)[name]
    settings = dataclasses.replace(settings, data=dataclasses.replace(settings.data, **data))
    if count > 1:
        sweep = SweepConfig(form=form, values={"seed": tuple(range(count))})
        settings = dataclasses.replace(settings, sweep=sweep)
    return resolve.stage(name, settings)


def measure(case: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for one lane, and one for each form of several."""
    name = f"{given.lanes} lanes"
    programs = {"one lane": Steps(build(case, 1))}
    programs |= {f"{name}, {form}": Steps(build(case, given.lanes, form)) for form in given.forms}
    steps = max(1, round(0.3 / programs["one lane"].run(3)))
    counts = [steps, *[max(1, steps // 2)] * len(given.forms)]
    rounds = [
        [program.run(count) for program, count in zip(programs.values(), counts, strict=True)]
        for _ in range(given.rounds)
    ]
    fastest = [min(seconds) for seconds in zip(*rounds, strict=True)]
    return [
        {
            "name": title,
            "ms a step": 1e3 * statistics.median(seconds[k] for seconds in rounds),
            "times one lane": statistics.median(seconds[k] / seconds[0] for seconds in rounds),
            "of the fastest turns": fastest[k] / fastest[0],
            "compilation s": program.compiled,
        }
        for k, (title, program) in enumerate(programs.items())
    ]


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=15)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--forms", nargs="+", default=["vmap", "unroll"])
    given = parser.parse_args()
    results.write(given.write, {case: measure(case, given) for case in given.cases})


if __name__ == "__main__":
    main()
