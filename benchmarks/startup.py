"""Measures the time from the command to the first step of a run, cold and warm, by phase.

    python benchmarks/startup.py [--config configs/digits/kd.py] [--rounds 3] [--write FILE.json] \\
        [--config.KEY=VALUE ...]

Each start is a process of its own that ends after its first step: cold ones with an empty folder of compiled programs,
warm ones with the folder that a cold one has left, in turn. The results are medians in seconds. `data` is opening,
measuring and decoding; `build` everything else before the first stage; `step` the first state, and the first dispatch
until its metrics arrive. Compilation is a part of it, and has a column of its own. The package's own bytecode is there,
as an installed package has it.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import results
import timing

PHASES = ("imports", "data", "build", "step", "total", "compilation")


def child(began: float, argv: list[str]) -> None:
    """Starts a run and ends it after its first step; prints the phases."""
    from jaxdistill import launch
    from jaxdistill.runtime import allocator, garbage

    allocator.keep_freed()  # both as `launch.run` does
    garbage.pause()
    config, values = launch.parse(["launch", *argv])
    import jax

    from jaxdistill.build import data, resolve
    from jaxdistill.pipeline import run as pipeline
    from jaxdistill.runtime import compilation_cache
    from jaxdistill.stages import train
    from jaxdistill.train import loop

    imported, spent = time.time(), {"data": 0.0}
    log = compilation_cache.compilation_log()

    def timed(holder, name):
        function = getattr(holder, name)

        def call(*given, **more):
            start = time.time()
            result = function(*given, **more)
            spent["data"] += time.time() - start
            return result

        setattr(holder, name, call)

    for holder, name in ((resolve, "open_dataset"), (data.StageData, "loader")):
        timed(holder, name)
    run = train.run

    def first_stage(*given, **options):
        spent["built"] = time.time()
        spent["data_before"] = spent["data"]
        return run(*given, **options)

    def report():
        now = time.time()
        phases = {
            "imports": imported - began,
            "data": spent["data"],
            "build": spent["built"] - imported - spent["data_before"],
            "step": now - spent["built"] - spent["data"] + spent["data_before"],
            "total": now - began,
            "compilation": log.total.seconds,
        }
        print(json.dumps(phases), flush=True)
        os._exit(0)

    compile_steps = loop.compile_steps

    def compile_first(*arguments, **options):
        program = compile_steps(*arguments, **options)

        def first_step(*inputs):
            jax.block_until_ready(program(*inputs))
            report()

        first_step.trace = program.trace
        return first_step

    train.run, loop.compile_steps = first_stage, compile_first
    pipeline.run(config, pathlib.Path(values["workdir"].value))


def start(words: list[str], workdir: pathlib.Path) -> dict[str, float]:
    """Starts a run in a process of its own and returns its phases."""
    command = [sys.executable, __file__, "--child", repr(time.time()), *words, "--workdir", str(workdir)]
    unset = "JAX_COMPILATION", "PYTHONDONTWRITEBYTECODE"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(unset)}
    printed = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(float(sys.argv[2]), sys.argv[3:])
    parser = timing.make_parser(__doc__, rounds=3)
    parser.add_argument("--config", default="configs/digits/kd.py")
    given, flags = parser.parse_known_args()
    starts: dict[str, list[dict[str, float]]] = {"cold": [], "warm": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(given.rounds):
            workdir = pathlib.Path(folder) / str(number)
            for phases in starts.values():
                phases.append(start(["--config", given.config, *flags], workdir))
                for path in (path for path in workdir.iterdir() if path.name != "compiled"):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    rows = [
        {"name": kind} | {phase: statistics.median(phases[phase] for phases in measured) for phase in PHASES}
        for kind, measured in starts.items()
    ]
    title = f"{given.config}: seconds from the command to the end of the first step, median of {given.rounds}"
    results.write(given.write, {title: rows})


if __name__ == "__main__":
    main()
