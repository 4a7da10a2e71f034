"""Measures a split in one dispatch against a dispatch and a copy for each batch, side by side.

    python benchmarks/evaluation.py [--examples 2048] [--batch 128] [--rounds 15] [--write FILE.json]

The split is random images, held on the device or copied from the host a batch at a time; the networks are the digits
MLP and ResNet-8 on images of CIFAR's size. The results are milliseconds of an evaluation, medians of interleaved
pairs, and their ratio.
"""

import statistics
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import results
import timing

from jaxdistill import metrics
from jaxdistill.data import loader
from jaxdistill.data.dataset import Arrays
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Frozen
from jaxdistill.runtime import allocator
from jaxdistill.runtime.timing import time_interleaved
from jaxdistill.train import mesh as sharding
from jaxdistill.train.evaluate import Evaluator, Plan

NETWORKS = {"MLP, 8x8x1": (MLP(10, (64,)), (8, 8, 1)), "ResNet-8, 32x32x3": (CifarResNet(10, depth=8), (32, 32, 3))}


def measure(module: nn.Module, shape: tuple[int, ...], *, examples: int, batch: int, rounds: int) -> dict[str, Any]:
    """Returns the median time of an evaluation in one dispatch, and batch by batch."""
    draw = np.random.default_rng(0)
    split = Arrays(draw.integers(0, 256, (examples, *shape), np.uint8), draw.integers(0, 10, examples, np.int32))
    mesh = sharding.make_mesh({"data": -1})
    chosen = {name: metrics.METRICS[name] for name in ("accuracy", "nll", "ece")}
    plan = Plan(
        networks={"network": Frozen(module)},
        names=["network"],
        metrics=chosen,
        prepare=lambda b: b | {"image": b["image"] / 255.0},
    )
    evaluator = Evaluator(plan.step, mesh)
    init = jax.jit(module.init, out_shardings=sharding.replicated(mesh), static_argnames="train")
    variables = {}, {}, {"network": init(jax.random.key(0), np.zeros((1, *shape), np.float32), train=False)}
    resident = evaluator.to_device(variables, loader.iterate_once(split, batch, 10))
    calls = {
        "one dispatch": lambda: evaluator.evaluate(variables, resident),
        "batch by batch": lambda: evaluator.evaluate(
            variables, evaluator.stream(loader.iterate_once(split, batch, 10))
        ),
    }
    seconds = time_interleaved(calls, rounds, warm_up=2)
    resident_s, streamed_s = map(statistics.median, seconds.values())
    return {
        "one dispatch ms": 1e3 * resident_s,
        "batch by batch ms": 1e3 * streamed_s,
        "times as fast": streamed_s / resident_s,
    }


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=15)
    parser.add_argument("--examples", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=128)
    given = parser.parse_args()
    sizes = {"examples": given.examples, "batch": given.batch, "rounds": given.rounds}
    rows = [{"name": name} | measure(module, shape, **sizes) for name, (module, shape) in NETWORKS.items()]
    results.write(given.write, {f"{given.examples:,} examples in batches of {given.batch}": rows})


if __name__ == "__main__":
    main()
