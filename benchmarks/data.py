"""Speed of reading a dataset, and the cost of streaming it against holding it on the device.

    python benchmarks/data.py [--name cifar10 --data_dir DIR] [--batch 128] [--steps 40] [--rounds 5] \\
        [--write FILE.json]

Reading: batches of the training split by threads and by processes, images per second; a PNG of TFDS is decoded each
time. Training: the KD step of ResNet-20 -> ResNet-8 on the same split, resident, streamed, and streamed but cheaply
(from decoded arrays), side by side, with the fraction of time that the device waited for data. Medians of interleaved
rounds.
"""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterator
from typing import Any

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
import results
import timing
from absl import flags

from jaxdistill.core import Term
from jaxdistill.data import datasets, loader
from jaxdistill.data.dataset import Arrays
from jaxdistill.methods.kd import KD
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.networks import Frozen, Trained
from jaxdistill.runtime import allocator
from jaxdistill.train import mesh
from jaxdistill.train.init import compiler_options, init_state
from jaxdistill.train.loop import compile_steps
from jaxdistill.train.prefetch import PREFETCH, Prefetcher
from jaxdistill.train.step import make_step


def read(streamed: loader.Streamed, batches: int, processes: int) -> float:
    """Returns images per second, without the start of the readers."""
    feeds = streamed.step_inputs(0, batches + 8)
    if processes:
        flags.FLAGS.mark_as_parsed()  # Grain's processes read them
        options = grain.ReadOptions(num_threads=streamed.num_threads, prefetch_buffer_size=4)
        mapped = grain.MapDataset.source(streamed)[: batches + 8].to_iter_dataset(options)
        feeds = iter(mapped.mp_prefetch(grain.MultiprocessingOptions(num_workers=processes)))
    for _ in range(8):
        next(feeds)
    began = time.perf_counter()
    count = sum(len(inputs["index"]) for inputs in feeds)
    return count / (time.perf_counter() - began)


class Trainer:
    """The KD step fed by a loader; a call makes steps and returns images per second and the fraction of waiting."""

    def __init__(self, reader: Any, classes: int, ahead: int):
        self.mesh, self.reader, self.ahead = mesh.make_mesh({"data": -1}), reader, ahead
        networks = {
            "teacher": Frozen(CifarResNet(classes, depth=20)),
            "student": Trained(CifarResNet(classes, depth=8)),
        }
        terms, tx = {"kd": Term(KD())}, optax.sgd(0.1, momentum=0.9)
        inputs = next(self.batches(1))
        replicated = mesh.replicated(self.mesh)
        self.held = jax.device_put(dict(reader.resident), replicated)

        def augment(batch: dict[str, Any]) -> dict[str, Any]:
            return batch | {"image": batch["image"].astype(jnp.float32) / 255}

        shapes = jax.eval_shape(lambda *given: augment(reader.make_batch(*given)), self.held, inputs)
        init = jax.jit(
            lambda key: init_state(networks, terms, tx, shapes, key=key),
            out_shardings=replicated,
            compiler_options=compiler_options(),
        )
        self.state, self.frozen = init(jax.random.key(0))
        self.step = compile_steps(make_step(networks, terms, tx, augment), reader.make_batch, self.mesh, replicated)
        self(2)

    def batches(self, steps: int) -> Iterator[Any]:
        return (mesh.put(self.mesh, inputs) for inputs in self.reader.step_inputs(0, steps))

    def __call__(self, steps: int) -> tuple[float, float]:
        feeding, metrics, total = Prefetcher(self.batches(steps), self.ahead, print), None, 0.0
        began = time.perf_counter()
        for number in range(steps):
            inputs, waited = feeding.next(metrics)
            before = metrics
            self.state, metrics = self.step(self.state, self.frozen, self.held, inputs)
            jax.block_until_ready(before)
            total += waited if number else 0.0
        jax.block_until_ready(metrics)
        took = time.perf_counter() - began
        return steps * self.reader.batch / took, total / took


def measure_reading(streamed: loader.Streamed, rounds: int, batches: int) -> list[dict[str, Any]]:
    """Returns a row for each number of threads and processes."""
    ways = [(1, 0), (4, 0), (8, 0), (1, 1), (1, 2)]
    rates: dict[tuple[int, int], list[float]] = {way: [] for way in ways}
    for _, (threads, processes) in itertools.product(range(rounds), ways):
        way = dataclasses.replace(streamed, num_threads=threads)
        rates[threads, processes].append(read(way, batches, processes))
    return [
        {"name": f"{threads} threads, {processes} other processes", "images/s": statistics.median(values)}
        for (threads, processes), values in rates.items()
    ]


def measure_training(train: Any, streamed: loader.Streamed, classes: int, given: Any) -> list[dict[str, Any]]:
    """Returns a row for each way to feed a step."""
    decoded = Arrays(**train.take(np.arange(len(train))))
    resident = loader.Resident.of(decoded, seed=0, batch=given.batch, classes=classes)
    feeds = {"resident": (resident, 0), "streamed": (streamed, PREFETCH)}
    feeds["streamed, decoded"] = (dataclasses.replace(streamed, split=decoded), PREFETCH)
    trainers = {name: Trainer(reader, classes, ahead) for name, (reader, ahead) in feeds.items()}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in trainers}
    for _, name in itertools.product(range(given.rounds), trainers):
        rates[name].append(trainers[name](given.steps))
    first = statistics.median(rate for rate, _ in rates["resident"])
    rows = []
    for name, values in rates.items():
        rate, wait = (statistics.median(column) for column in zip(*values, strict=True))
        rows.append({"name": name, "images/s": rate, "times resident": rate / first, "waiting for data": wait})
    return rows


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = timing.make_parser(__doc__, rounds=5)
    parser.add_argument("--name", default="cifar10")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    dataset = datasets.load(given.name, data_dir=given.data_dir)
    train = dataset.split("train")
    streamed = loader.Streamed(train, seed=0, batch=given.batch, classes=dataset.classes)
    title = f"{given.name}, {len(train):,} images {dataset.shape}, batch {given.batch}"
    tables = {
        f"Reading {title}": measure_reading(streamed, given.rounds, given.steps),
        f"Training on {title}": measure_training(train, streamed, dataset.classes, given),
    }
    results.write(given.write, tables)


if __name__ == "__main__":
    main()
