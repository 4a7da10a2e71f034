"""Measures a split in one dispatch against a dispatch and a copy for each batch, side by side.

    python benchmarks/evaluation.py [--examples 2048] [--batch 128] [--rounds 15]

The split is random images, held on the device or copied from the host a batch at a time; the networks are the digits
MLP and ResNet-8 on images of CIFAR's size. Printed: milliseconds of an evaluation, medians of interleaved pairs, and
their ratio.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from jaxdistill import metrics
from jaxdistill.data import loader
from jaxdistill.data.dataset import Arrays
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Frozen
from jaxdistill.runtime import allocator
from jaxdistill.train import mesh as sharding
from jaxdistill.train.evaluate import Evaluator, Plan

NETWORKS = {"MLP, 8x8x1": (MLP(10, (64,)), (8, 8, 1)), "ResNet-8, 32x32x3": (CifarResNet(10, depth=8), (32, 32, 3))}


def compared(module, shape, examples: int, batch: int, rounds: int) -> tuple[float, float]:
    """Returns the median seconds of an evaluation, held and batch by batch."""
    draw = np.random.default_rng(0)
    split = Arrays(draw.integers(0, 256, (examples, *shape), np.uint8), draw.integers(0, 10, examples, np.int32))
    mesh = sharding.make_mesh({"data": -1})
    found = {name: metrics.find(name) for name in ("accuracy", "nll", "ece")}
    plan = Plan(
        networks={"network": Frozen(module)},
        names=["network"],
        metrics=found,
        prepare=lambda b: b | {"image": b["image"] / 255.0},
    )
    measure = Evaluator(plan.step, mesh)
    init = jax.jit(module.init, out_shardings=sharding.replicated(mesh), static_argnames="train")
    known = {}, {}, {"network": init(jax.random.key(0), np.zeros((1, *shape), np.float32), train=False)}
    resident = measure.to_device(known, loader.once(split, batch, 10))
    ways = (
        lambda: measure.evaluate(known, resident),
        lambda: measure.evaluate(known, measure.stream(loader.once(split, batch, 10))),
    )
    times: list[list[float]] = [[], []]
    for number in range(rounds + 2):
        for way, taken in zip(ways, times, strict=True):
            began = time.perf_counter()
            way()
            if number > 1:
                taken.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    print(f"{jax.devices()[0].device_kind}, {given.examples} examples in batches of {given.batch}, ms for each pass")
    for name, (module, shape) in NETWORKS.items():
        held, streamed = compared(module, shape, given.examples, given.batch, given.rounds)
        print(
            f"{name}: one dispatch {1e3 * held:.1f}, batch by batch {1e3 * streamed:.1f}: {streamed / held:.2f} times"
        )


if __name__ == "__main__":
    main()
