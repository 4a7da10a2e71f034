"""Measures how fast a set is read, and what streaming it costs a step against holding it on the device.

    python benchmarks/data.py [--name cifar10 --data_dir DIR] [--batch 128] [--steps 40] [--rounds 5]

Reading: batches of the training split by threads and by processes, images per second; a PNG of TFDS is decoded each
time. Training: the KD step of ResNet-20 -> ResNet-8 on the same split, resident, streamed, and streamed but cheaply
(from decoded arrays), side by side, with the share of time that the device waited for data. Medians of interleaved
rounds.
"""

import argparse
import dataclasses
import itertools
import statistics
import time

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from jaxdistill.core import Term
from jaxdistill.data import datasets, loader
from jaxdistill.data.dataset import Arrays
from jaxdistill.methods.kd import KD
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.networks import Frozen, Trained
from jaxdistill.runtime import allocator
from jaxdistill.train import mesh
from jaxdistill.train.init import compiler_options, initial
from jaxdistill.train.loop import dispatcher
from jaxdistill.train.prefetch import AHEAD, Feeding
from jaxdistill.train.step import make_step


def read(streamed: loader.Streamed, batches: int, processes: int) -> float:
    """Returns images per second, without the start of the readers."""
    feeds = streamed.feeds(0, batches + 8)
    if processes:
        flags.FLAGS.mark_as_parsed()  # Grain's processes ask for some
        options = grain.ReadOptions(num_threads=streamed.threads, prefetch_buffer_size=4)
        mapped = grain.MapDataset.source(streamed)[: batches + 8].to_iter_dataset(options)
        feeds = iter(mapped.mp_prefetch(grain.MultiprocessingOptions(num_workers=processes)))
    for _ in range(8):
        next(feeds)
    began = time.perf_counter()
    count = sum(len(fed["index"]) for fed in feeds)
    return count / (time.perf_counter() - began)


class Trainer:
    """The KD step fed by a loader; a call makes some steps and returns images per second and the share of waiting."""

    def __init__(self, made, classes: int, ahead: int):
        self.mesh, self.made, self.ahead = mesh.make_mesh({"data": -1}), made, ahead
        networks = {
            "teacher": Frozen(CifarResNet(classes, depth=20)),
            "student": Trained(CifarResNet(classes, depth=8)),
        }
        terms, tx = {"kd": Term(KD())}, optax.sgd(0.1, momentum=0.9)
        fed = next(self.batches(1))
        whole = mesh.replicated(self.mesh)
        self.held = jax.device_put(dict(made.held), whole)

        def augment(batch):
            return batch | {"image": batch["image"].astype(jnp.float32) / 255}

        shapes = jax.eval_shape(lambda held, fed: augment(made.raw(held, fed)), self.held, fed)
        init = jax.jit(
            lambda key: initial(networks, terms, tx, shapes, key, {}),
            out_shardings=whole,
            compiler_options=compiler_options(),
        )
        self.state, self.frozen = init(jax.random.key(0))
        self.step = dispatcher(make_step(networks, terms, tx, augment), made.raw, self.mesh, whole, 1)
        self(2)

    def batches(self, steps: int):
        return (mesh.put(self.mesh, fed) for fed in self.made.feeds(0, steps))

    def __call__(self, steps: int) -> tuple[float, float]:
        feeding, metrics, total = Feeding(self.batches(steps), self.ahead, print), None, 0.0
        began = time.perf_counter()
        for number in range(steps):
            fed, waited = feeding.next(metrics)
            before = metrics
            self.state, metrics = self.step(self.state, self.frozen, self.held, fed)
            jax.block_until_ready(before)
            total += waited if number else 0.0
        jax.block_until_ready(metrics)
        took = time.perf_counter() - began
        return steps * self.made.batch / took, total / took


def main() -> None:
    allocator.keep_freed()  # as every launch does
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="cifar10")
    parser.add_argument("--data_dir", default="")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    dataset = datasets.load(given.name, data_dir=given.data_dir)
    train = dataset.split("train")
    streamed = loader.Streamed(train, seed=0, batch=given.batch, classes=dataset.classes)
    ways = [(1, 0), (4, 0), (8, 0), (1, 1), (1, 2)]
    found: dict = {way: [] for way in ways}
    for _, (threads, processes) in itertools.product(range(given.rounds), ways):
        way = dataclasses.replace(streamed, threads=threads)
        found[threads, processes].append(read(way, given.steps, processes))
    print(f"{given.name}, {len(train):,} images {dataset.shape}, batch {given.batch}; {jax.devices()[0].device_kind}")
    for (threads, workers), rates in found.items():
        print(
            f"read by {threads} threads in {workers or 'no other'} processes: {statistics.median(rates):,.0f} images/s"
        )
    decoded = Arrays(**train.take(np.arange(len(train))))
    resident = loader.Resident.of(decoded, seed=0, batch=given.batch, classes=dataset.classes)
    feeds = {"resident": (resident, 0), "streamed": (streamed, AHEAD)}
    feeds["streamed, decoded"] = (dataclasses.replace(streamed, split=decoded), AHEAD)
    trainers = {name: Trainer(made, dataset.classes, ahead) for name, (made, ahead) in feeds.items()}
    rates = {name: [] for name in trainers}
    for _, name in itertools.product(range(given.rounds), trainers):
        rates[name].append(trainers[name](given.steps))
    first = statistics.median(rate for rate, _ in rates["resident"])
    for name, found in rates.items():
        rate, wait = (statistics.median(values) for values in zip(*found, strict=True))
        print(f"trained {name}: {rate:,.0f} images/s ({rate / first:.2f}), {wait:.1%} of the time waiting for data")


if __name__ == "__main__":
    main()
