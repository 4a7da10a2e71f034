"""Measures 1, 4, 16 and 64 steps per dispatch, side by side, on this backend.

    python benchmarks/dispatch.py [--steps 64] [--rounds 7] [--batch 64] [--write FILE.json]

KD steps of resident data: the digits MLP (256 -> 16 hidden) on images of 8 x 8, and ResNet-20 -> ResNet-8 on random
images of 32 x 32 x 3. The results are microseconds a step, medians of interleaved rounds, and the speed as a multiple
of one step a dispatch. By these numbers `steps_per_call=0` is 1 on a CPU; elsewhere it is 32, which is not measured.
"""

import itertools
import statistics
import time
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import results
import timing

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
from jaxdistill.train.init import compiler_options, init_state
from jaxdistill.train.loop import compile_steps
from jaxdistill.train.step import make_step

COUNTS = (1, 4, 16, 64)
PAIRS = {
    "MLP -> MLP": (MLP(10, (256,)), MLP(10, (16,)), (8, 8, 1)),
    "ResNet-20 -> ResNet-8": (CifarResNet(10, depth=20), CifarResNet(10, depth=8), (32, 32, 3)),
}


def measure(
    teacher: nn.Module, student: nn.Module, shape: tuple[int, ...], *, batch: int, steps: int, rounds: int
) -> list[dict[str, Any]]:
    """Returns a row for each number of steps per dispatch."""
    draw, examples, mesh = np.random.default_rng(0), 1024, sharding.make_mesh({"data": -1})
    split = Arrays(draw.integers(0, 256, (examples, *shape), np.uint8), draw.integers(0, 10, examples, np.int32))
    resident = loader.Resident.of(split, seed=0, batch=batch, classes=10)
    networks = {"teacher": Frozen(teacher), "student": Trained(student)}
    terms = {"task": Term(CrossEntropy(), teacher=None), "kd": Term(KD())}
    tx, replicated = optax.sgd(0.1, momentum=0.9), sharding.replicated(mesh)
    arrays = jax.device_put(dict(resident.resident), replicated)

    def augment(raw: dict[str, Any]) -> dict[str, Any]:
        return raw | {"image": raw["image"].astype(jnp.float32) / 255}

    first = next(resident.step_inputs(0, 1))
    shapes = jax.eval_shape(lambda *given: augment(resident.make_batch(*given)), arrays, first)
    init = jax.jit(
        lambda key: init_state(networks, terms, tx, shapes, key=key),
        out_shardings=replicated,
        compiler_options=compiler_options(),
    )
    state, frozen = init(jax.random.key(0))
    step = make_step(networks, terms, tx, augment)
    programs = {count: compile_steps(step, resident.make_batch, mesh, replicated, count=count) for count in COUNTS}
    times: dict[int, list[float]] = {count: [] for count in COUNTS}
    for number, count in itertools.product(range(rounds + 1), COUNTS):
        feeds, metrics = resident.step_inputs(0, steps), None
        began = time.perf_counter()
        for _ in range(steps // count):
            parts = list(itertools.islice(feeds, count))
            inputs = parts[0] if count == 1 else {key: np.stack([part[key] for part in parts]) for key in parts[0]}
            before = metrics
            state, metrics = programs[count](state, frozen, arrays, sharding.put(mesh, inputs, int(count > 1)))
            jax.device_get(before)  # one dispatch late, as in the loop
        jax.block_until_ready(metrics)
        if number:
            times[count].append((time.perf_counter() - began) / steps)
    medians = {count: statistics.median(taken) for count, taken in times.items()}
    return [
        {"name": f"{count} steps", "microseconds a step": 1e6 * median, "times as fast": medians[1] / median}
        for count, median in medians.items()
    ]


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=7)
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()
    sizes = {"batch": given.batch, "steps": max(given.steps, COUNTS[-1]), "rounds": given.rounds}
    tables = {
        f"{name}, batch {given.batch}, by steps a dispatch": measure(*pair, **sizes) for name, pair in PAIRS.items()
    }
    results.write(given.write, tables)


if __name__ == "__main__":
    main()
