"""What lanes cost: several runs of a stage in one program against one of them, by form, in steps of the real loop.

    python benchmarks/lanes.py [--lanes 8] [--pairs 15] [--cases mlp resnet8] [--forms vmap unroll]

Cases: `mlp`, the student of configs/digits/kd.py with its teacher, of one stream of data; `streams`, the same where
each lane has its own batches; `resnet8`, the digits' teacher, taught by labels. A turn is some steps of each, one
after the other; what is printed is the median over turns of the ratio to one lane in the same turn. A ratio below the
number of lanes is what is saved over separate runs, start-up and compilation not counted.
"""

import argparse
import statistics
import time

import jax

from jaxdistill.build import resolve
from jaxdistill.config import load as configs
from jaxdistill.runtime import allocator
from jaxdistill.stages.lanes import runs_of
from jaxdistill.train import mesh
from jaxdistill.train.loop import dispatcher

CASES = {
    "mlp": ("configs/digits/kd.py", "distil", {"seed": 0}),
    "streams": ("configs/digits/kd.py", "distil", {"seed": -1}),
    "resnet8": ("configs/digits/kd.py", "teacher", {"seed": 0}),
}
"""case -> config, stage and what differs in its data."""


class Steps:
    """A stage's steps as the loop takes them: feed, dispatch, look at the metrics of the step before."""

    def __init__(self, stage):
        runs = runs_of(stage)
        placed, loader = runs.shardings(), runs.loader()
        teachers = jax.jit(stage.initial)()[1]  # random weights cost the same
        self.state = jax.jit(runs.init, out_shardings=placed[0])(teachers)
        self.frozen = runs.for_inference(teachers)
        self.held = jax.device_put(dict(loader.held), mesh.replicated(stage.mesh))
        self.step = dispatcher(runs.step(), loader.raw, stage.mesh, placed[0], 1)
        self.feeds, self.leading, self.mesh = loader.feeds(0, 1 << 30), loader.leading, stage.mesh
        self.pending, began = None, time.perf_counter()
        self.run(1)
        self.compiled = time.perf_counter() - began

    def run(self, count: int) -> float:
        """Takes steps and returns the seconds of one."""
        began = time.perf_counter()
        for _ in range(count):
            fed = mesh.put(self.mesh, next(self.feeds), self.leading)
            self.state, metrics = self.step(self.state, self.frozen, self.held, fed)
            jax.device_get(self.pending)
            self.pending = metrics
        jax.block_until_ready(self.state)
        return (time.perf_counter() - began) / count


def built(case: str, count: int, form: str):
    """Builds a stage in `count` lanes of seeds; one is the ordinary run."""
    file, name, data = CASES[case]
    settings = configs.stages(configs.read(file).to_dict())[name]
    settings["data"] |= data
    if count > 1:
        settings["sweep"] = {"seed": tuple(range(count)), "form": form}
    return resolve.stage(name, settings)


def measure(case: str, given: argparse.Namespace) -> None:
    one = Steps(built(case, 1, ""))
    took = one.run(3)
    steps = max(1, round(0.3 / took))
    several = {form: Steps(built(case, given.lanes, form)) for form in given.forms}
    turns = []
    for _ in range(given.pairs):
        turns.append([one.run(steps), *(each.run(max(1, steps // 2)) for each in several.values())])
    base = statistics.median(turn[0] for turn in turns)
    print(f"{case}: one lane {1e3 * base:.2f} ms a step, compiled in {one.compiled:.1f} s", flush=True)
    for place, (form, each) in enumerate(several.items(), 1):
        ratio = statistics.median(turn[place] / turn[0] for turn in turns)
        took = 1e3 * statistics.median(turn[place] for turn in turns)
        least = min(turn[place] for turn in turns) / min(turn[0] for turn in turns)
        told = f"{took:.2f} ms a step, {ratio:.2f} times one lane (of the fastest turns {least:.2f})"
        told += f", compiled in {each.compiled:.1f} s"
        print(f"{case}: {given.lanes} lanes, {form}: {told}", flush=True)


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES])
    parser.add_argument("--forms", nargs="+", default=["vmap", "unroll"])
    given = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; medians of {given.pairs} turns")
    for case in given.cases:
        measure(case, given)


if __name__ == "__main__":
    main()
