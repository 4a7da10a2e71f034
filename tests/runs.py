"""Runs of the launcher in this process, and what they left."""

import dataclasses
import itertools
import json
import pathlib
import sys
import time

import jax
import numpy as np

from jaxdistill import launch
from jaxdistill.runtime.preemption import StopSignal
from jaxdistill.train import checkpoint, mesh
from jaxdistill.train.metrics_log import CLOCKED

TINY = str(pathlib.Path(__file__).parent / "configs" / "tiny.py")


def launched(workdir, *flags, config=TINY, stop=None):
    """Runs the command; returns its exit status."""
    return launch.main(["launch", "--config", config, "--workdir", str(workdir), *flags], stop)


def stop_at(number):
    """Returns a flag that stops a run at its check of that number: before each stage, and after each dispatch."""
    numbers = itertools.count(1)
    return StopSignal(lambda _: next(numbers) == number)


def parsed(*flags, config=TINY):
    """Returns the settings of each stage of a config with flags."""
    return launch.parse(["launch", "--config", config, *flags])[0]


def weights(workdir, stage, step):
    """Every array of a checkpoint, by name."""
    folder = pathlib.Path(workdir) / stage / checkpoint.FOLDER
    whole = mesh.replicated(mesh.make_mesh({"data": -1}))
    arrays = checkpoint.metadata(folder, step)["arrays"]
    wanted = {n: jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=whole) for n, (shape, dtype) in arrays.items()}
    return {name: np.asarray(value) for name, value in checkpoint.read(folder, step, wanted).items()}


def lines(workdir):
    """The lines of `metrics.jsonl`, without what depends on the clock."""
    read = [json.loads(line) for line in (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCKED} for line in read]


def results(workdir):
    return json.loads((pathlib.Path(workdir) / "results.json").read_text())


def with_evaluate(stage, **changes):
    """Returns a stage with other settings of its evaluation."""
    evaluate = dataclasses.replace(stage.settings.evaluate, **changes)
    return dataclasses.replace(stage, settings=dataclasses.replace(stage.settings, evaluate=evaluate))


LONG = "--config.steps=400", "--config.evaluate.every=40", "--config.log_every=10"


def command(workdir, *flags):
    """The words that run the tiny config in a process of its own."""
    return [sys.executable, "-m", "jaxdistill.launch", "--config", TINY, "--workdir", str(workdir), *flags]


def until(workdir, step, process, stage="distil"):
    """Waits until the run has written that step of a stage."""
    path = pathlib.Path(workdir) / "metrics.jsonl"
    for _ in range(2400):
        said = lines(workdir) if path.exists() and path.read_text().endswith("\n") else []
        if any(line["stage"] == stage and line["step"] >= step for line in said):
            return
        assert process.poll() is None, "it ended too early"
        time.sleep(0.05)
    raise AssertionError("it never came so far")
