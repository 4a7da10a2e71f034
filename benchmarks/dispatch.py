"""Measures 1, 4, 16 and 64 steps per dispatch, side by side, on this backend.

    python benchmarks/dispatch.py [--steps 64] [--rounds 7] [--batch 64]

KD steps of resident data: the digits MLP (256 -> 16 hidden) on images of 8 x 8, and ResNet-20 -> ResNet-8 on random
images of 32 x 32 x 3. Printed: microseconds a step, medians of interleaved rounds, and how many times faster than one
step a dispatch. `dispatch=0` takes 1 on a CPU, by these numbers, and 32 elsewhere, which is not measured.
"""

import argparse
import itertools
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdistill.core import Term
from jaxdistill.data import loader
from jaxdistill.data.dataset import Arrays
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.kd import KD
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Frozen, Trained
from jaxdistill.runtime import allocator
from jaxdistill.train import mesh as sharding
from jaxdistill.train.init import compiler_options, initial
from jaxdistill.train.loop import dispatcher
from jaxdistill.train.step import make_step

COUNTS = (1, 4, 16, 64)
PAIRS = {
    "MLP -> MLP": (MLP(10, (256,)), MLP(10, (16,)), (8, 8, 1)),
    "ResNet-20 -> ResNet-8": (CifarResNet(10, depth=20), CifarResNet(10, depth=8), (32, 32, 3)),
}


def measured(teacher, student, shape, batch: int, steps: int, rounds: int) -> dict[int, float]:
    """Returns the median seconds of a step by steps per dispatch."""
    draw, examples, mesh = np.random.default_rng(0), 1024, sharding.make_mesh({"data": -1})
    split = Arrays(draw.integers(0, 256, (examples, *shape), np.uint8), draw.integers(0, 10, examples, np.int32))
    made = loader.Resident.of(split, seed=0, batch=batch, classes=10)
    networks = {"teacher": Frozen(teacher), "student": Trained(student)}
    terms = {"task": Term(CrossEntropy(), teacher=None), "kd": Term(KD())}
    tx, whole = optax.sgd(0.1, momentum=0.9), sharding.replicated(mesh)
    held = jax.device_put(dict(made.held), whole)

    def augment(raw):
        return raw | {"image": raw["image"].astype(jnp.float32) / 255}

    shapes = jax.eval_shape(lambda held, fed: augment(made.raw(held, fed)), held, next(made.feeds(0, 1)))
    init = jax.jit(
        lambda key: initial(networks, terms, tx, shapes, key, {}),
        out_shardings=whole,
        compiler_options=compiler_options(),
    )
    state, frozen = init(jax.random.key(0))
    step = make_step(networks, terms, tx, augment)
    programs = {count: dispatcher(step, made.raw, mesh, whole, count) for count in COUNTS}
    times: dict[int, list[float]] = {count: [] for count in COUNTS}
    for number, count in itertools.product(range(rounds + 1), COUNTS):
        feeds, metrics = made.feeds(0, steps), None
        began = time.perf_counter()
        for _ in range(steps // count):
            parts = list(itertools.islice(feeds, count))
            fed = parts[0] if count == 1 else {key: np.stack([part[key] for part in parts]) for key in parts[0]}
            before = metrics
            state, metrics = programs[count](state, frozen, held, sharding.put(mesh, fed, int(count > 1)))
            jax.device_get(before)  # as the loop does, one dispatch late
        jax.block_until_ready(metrics)
        if number:
            times[count].append((time.perf_counter() - began) / steps)
    return {count: statistics.median(taken) for count, taken in times.items()}


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, batch {given.batch}: microseconds a step by steps per dispatch")
    for name, (teacher, student, shape) in PAIRS.items():
        found = measured(teacher, student, shape, given.batch, max(given.steps, COUNTS[-1]), given.rounds)
        said = ", ".join(f"{count}: {1e6 * took:,.0f} ({found[1] / took:.2f})" for count, took in found.items())
        print(f"{name}: {said}", flush=True)


if __name__ == "__main__":
    main()
