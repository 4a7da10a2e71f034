"""Our steps as `jaxdistill.train.loop` makes them, for the scripts that time them."""

import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdistill import launch
from jaxdistill.build import resolve
from jaxdistill.build.stage import Stage
from jaxdistill.config import load
from jaxdistill.data.output_cache import Cache
from jaxdistill.stages import cache as caching
from jaxdistill.stages.lanes import runs_of
from jaxdistill.train import flops
from jaxdistill.train import mesh as sharding
from jaxdistill.train.loop import dispatcher

CLASSES = 100


class Steps:
    """A step with its state, dispatched and fed as in training; the state is donated.

    Args:
        step: the pure step (`train.step.make_step`).
        state, frozen: what it begins with.
        loader: has `held`, `raw`, `feeds` and `leading` (`data.loader`).
        dispatch: steps that are dispatched at a time.

    Attributes:
        losses: of the steps of the last call, `[steps]`.
    """

    def __init__(self, step, state, frozen, loader, dispatch: int = 1, mesh=None, placed=None):
        self._mesh = mesh or sharding.make_mesh({"data": -1, "fsdp": 1, "tensor": 1})
        whole = sharding.replicated(self._mesh)
        self._leading = loader.leading
        self._held = jax.device_put(dict(loader.held), whole)
        self._feeds = loader.feeds(0, 1_000_000)
        self._step = dispatcher(step, loader.raw, self._mesh, placed or whole, dispatch)
        self._single = dispatcher(step, loader.raw, self._mesh, placed or whole, 1)
        self.state, self.frozen = state, frozen
        self.dispatch, self.losses = dispatch, np.zeros(0)

    @classmethod
    def of_stage(cls, stage: Stage, starts: Mapping[str, Any], dispatch: int = 1) -> "Steps":
        """Those of a built stage."""
        runs = runs_of(stage)
        placed, weights = runs.shardings(), jax.jit(lambda: stage.initial(starts)[1])()
        state = jax.device_put(jax.jit(runs.init)(weights | dict(starts)), placed[0])
        frozen = runs.for_inference(weights)
        return cls(runs.step(), state, frozen, runs.loader(), dispatch, stage.mesh, placed[0])

    def _fed(self) -> Any:
        parts = list(itertools.islice(self._feeds, self.dispatch))
        if self.dispatch == 1:
            return sharding.put(self._mesh, dict(parts[0]), self._leading)
        return sharding.put(
            self._mesh, {name: np.stack([part[name] for part in parts]) for name in parts[0]}, self._leading + 1
        )

    def flops(self) -> float:
        """Counts what one step computes, as the log and the plan do (`train.flops`)."""
        first = next(self._feeds)
        self._feeds = itertools.chain([first], self._feeds)
        shapes = jax.eval_shape(lambda *x: x, self.state, self.frozen, self._held, dict(first))
        return float(sum(flops.count(self._single, *shapes).values()))

    def run(self, steps: int) -> None:
        """Makes some steps and waits for the last; metrics are fetched one dispatch late, as in training."""
        losses, pending = [], None
        for _ in range(steps // self.dispatch):
            self.state, metrics = self._step(self.state, self.frozen, self._held, self._fed())
            if pending is not None:
                losses.append(np.atleast_1d(jax.device_get(pending)))
            pending = metrics["loss"]
        losses.append(np.atleast_1d(jax.device_get(pending)))
        jax.block_until_ready(self.state)
        self.losses = np.concatenate(losses)


def images(folder: pathlib.Path, examples: int, size: int = 32) -> pathlib.Path:
    """Writes an `.npz` of noise in the shape of CIFAR-100: what images show changes no time."""
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (examples, size, size, 3), np.uint8)
    label = np.arange(examples, dtype=np.int32) % CLASSES
    names = np.array([f"class {k}" for k in range(CLASSES)])
    path = folder / "images.npz"
    np.savez(path, train_image=image, train_label=label, class_names=names)
    return path


def stage(file: str, name: str, flags: Sequence[str], caches: Mapping[str, Cache] | None = None) -> Stage:
    """Builds a stage of a config file with flags as on the command line."""
    settings = load.stages(launch.parse(["launch", "--config", file, *flags])[0].to_dict())
    return resolve.stage(name, settings[name], {}, caches or {})


def cached(file: str, flags: Sequence[str], starts: Mapping[str, Any], folder: pathlib.Path) -> Stage:
    """Builds the stage `cached` of a config file, whose teacher's answers the stage `cache` writes here first."""
    asking = stage(file, "cache", flags)
    cache = caching.of_stage(asking, {"by": "a benchmark"}, folder)
    teacher = {name: starts[name] for name in asking.networks if name in starts}
    caching.fill(cache, lambda: caching.network(asking, teacher), lambda *_: None)
    return stage(file, "cached", flags, {"teacher": cache})


def check(name: str, found: Sequence[float], wanted: Sequence[float]) -> None:
    """Raises where losses of the same steps differ: another arithmetic is not a peer."""
    tolerance = 1e-4 if jax.default_backend() == "cpu" else 1e-2  # TF32 keeps ten bits
    for step, (own, other) in enumerate(zip(found, wanted, strict=False)):
        # Rounding grows from step to step.
        if not abs(own - other) <= min(tolerance * 10**step, 0.1) * max(abs(other), 1.0):
            raise SystemExit(f"{name}: loss {own:.6f} at step {step}, and {other:.6f} elsewhere; nothing was timed")
