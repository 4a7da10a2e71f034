"""Steps of this project as in `jaxdistill.train.loop`, for the scripts that time them."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxdistill import launch, networks
from jaxdistill.build import resolve
from jaxdistill.build.stage import Stage
from jaxdistill.data.output_cache import Cache
from jaxdistill.runtime import xla_options
from jaxdistill.runtime.onednn import setting as convolutions
from jaxdistill.stages import output_writer
from jaxdistill.stages.cache import predict_stored
from jaxdistill.train import flops
from jaxdistill.train import mesh as sharding
from jaxdistill.train.loop import compile_steps

CLASSES = 100


class Steps:
    """A step with its state, dispatched and fed as in training; the state is donated.

    Args:
        step: the pure step (`train.step.make_step`).
        state: at the start.
        frozen: variables of networks that do not learn.
        loader: has `resident`, `make_batch`, `step_inputs` and `leading` (`data.loader`).
        dispatch: the number of steps that are dispatched at a time.
        mesh: of the devices; all of them along "data" if None.
        placed: shardings of the state; replicated if None.

    Attributes:
        losses: of the steps of the last call, `[steps]`.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        state: Any,
        frozen: Any,
        loader: Any,
        *,
        dispatch: int = 1,
        mesh: jax.sharding.Mesh | None = None,
        placed: Any = None,
    ):
        self._mesh = mesh or sharding.make_mesh({"data": -1, "fsdp": 1, "tensor": 1})
        replicated = sharding.replicated(self._mesh)
        self._leading = loader.leading
        self._held = jax.device_put(dict(loader.resident), replicated)
        self._feeds = loader.step_inputs(0, 1_000_000)
        self._step = compile_steps(step, loader.make_batch, self._mesh, placed or replicated, count=dispatch)
        self._single = compile_steps(step, loader.make_batch, self._mesh, placed or replicated)
        self.state, self.frozen = state, frozen
        self.dispatch, self.losses = dispatch, np.zeros(0)

    @classmethod
    def of_stage(cls, stage: Stage, starts: Mapping[str, Any], dispatch: int = 1) -> "Steps":
        """Makes the steps of a built stage."""
        runs = stage.runs
        convolutions.use(stage.settings.convolutions)
        xla_options.use(networks.tpu_options(stage.networks))
        placed, weights = runs.shardings(), jax.jit(lambda: stage.init(starts)[1])()
        state = jax.device_put(jax.jit(runs.init)(weights | dict(starts)), placed[0])
        frozen = runs.for_inference(weights)
        return cls(runs.step(), state, frozen, runs.loader(), dispatch=dispatch, mesh=stage.mesh, placed=placed[0])

    def _next_inputs(self) -> Any:
        parts = list(itertools.islice(self._feeds, self.dispatch))
        if self.dispatch == 1:
            return sharding.put(self._mesh, dict(parts[0]), self._leading)
        return sharding.put(
            self._mesh, {name: np.stack([part[name] for part in parts]) for name in parts[0]}, self._leading + 1
        )

    def flops(self) -> float:
        """Counts the FLOPs of one step, as in the log and the plan (`train.flops`)."""
        first = next(self._feeds)
        self._feeds = itertools.chain([first], self._feeds)
        shapes = jax.eval_shape(lambda *x: x, self.state, self.frozen, self._held, dict(first))
        return float(sum(flops.count(self._single, *shapes).values()))

    def run(self, steps: int) -> None:
        """Makes some steps and waits for the last; metrics are fetched one dispatch late, as in training."""
        losses, pending = [], None
        for _ in range(steps // self.dispatch):
            self.state, metrics = self._step(self.state, self.frozen, self._held, self._next_inputs())
            if pending is not None:
                losses.append(np.atleast_1d(jax.device_get(pending)))
            pending = metrics["loss"]
        losses.append(np.atleast_1d(jax.device_get(pending)))
        jax.block_until_ready(self.state)
        self.losses = np.concatenate(losses)


def write_images(folder: pathlib.Path, examples: int, size: int = 32) -> pathlib.Path:
    """Writes an `.npz` of noise in the shape of CIFAR-100: the content of images changes no time."""
    draw = np.random.default_rng(0)
    image = draw.integers(0, 256, (examples, size, size, 3), np.uint8)
    label = np.arange(examples, dtype=np.int32) % CLASSES
    names = np.array([f"class {k}" for k in range(CLASSES)])
    path = folder / "images.npz"
    np.savez(path, train_image=image, train_label=label, class_names=names)
    return path


def build_stage(file: str, name: str, flags: Sequence[str], caches: Mapping[str, Cache] | None = None) -> Stage:
    """Builds a stage of a config file with flags as on the command line."""
    settings = launch.parse(["launch", "--config", file, *flags])[0]
    return resolve.stage(name, settings[name], {}, caches or {})


def build_cached(file: str, flags: Sequence[str], starts: Mapping[str, Any], folder: pathlib.Path) -> Stage:
    """Builds the stage `cached` of a config file, after its stage `cache` has written the teacher's outputs."""
    writer = build_stage(file, "cache", flags)
    header = dataclasses.replace(writer.kind.cache_header(writer), teacher={"by": "a benchmark"})
    cache = Cache(folder / writer.name, header)
    teacher = {name: starts[name] for name in writer.networks if name in starts}
    output_writer.begin(cache)
    output_writer.fill(cache, lambda: predict_stored(writer, cache, teacher), lambda *_: None)
    return build_stage(file, "cached", flags, {"teacher": cache})


def check(name: str, losses: Sequence[float], expected: Sequence[float]) -> None:
    """Raises `SystemExit` if losses of the same steps differ: other arithmetic is not comparable."""
    tolerance = 1e-4 if jax.default_backend() == "cpu" else 1e-2  # TF32 keeps ten bits
    for step, (loss, reference) in enumerate(zip(losses, expected, strict=False)):
        # Rounding grows from step to step.
        if not abs(loss - reference) <= min(tolerance * 10**step, 0.1) * max(abs(reference), 1.0):
            raise SystemExit(f"{name}: loss {loss:.6f} at step {step}, expected {reference:.6f}; nothing was timed")
