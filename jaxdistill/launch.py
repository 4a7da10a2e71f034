"""python -m jaxdistill.launch --config FILE.py[:MODE] --workdir DIR [--plan] [--lane N --from DIR] [--config.KEY=V ...]

    --config    a config file, or one of those that come with the package (digits/kd); MODE is given to its
                get_config, `:smoke` is a few steps of the same path
    --workdir   where everything is written; the same command resumes an interrupted run
    --plan      print what would be done (networks, shapes, parameters, FLOPs, memory), compile, do not train
    --profile[=STEPS]   record some early steps (5) of every stage that trains, for TensorBoard and Perfetto
    --devices=N with --plan: as it would be on N devices, which this machine need not have
    --topology=v5e:4x4 with --plan: compiled for that slice of TPUs, or for GPUs (h100:8), none of which need be here:
                memory, collectives and the compiler's estimate of time, by networks and operations
    --stages=A,B   these stages alone, and those that they read
    --lane      with --from: continue one lane of the swept run in the folder --from as a run of its own in --workdir;
                --config and its flags must be those of the swept run
    --config.terms.kd.temperature=2   set any key of the config

On several hosts, start the same command on each with --distributed (TPU pods, SLURM, MPI: found in the
environment), or with --coordinator=HOST:PORT --processes=N --process=I.

Exit status: 0 when the job is done; 1 when training failed; 2 for a mistake, which the message names; 128 + the
signal's number after a signal, with the state saved; 141 after the reader of the output has closed it; 75 when
another process of the job is gone (134 where JAX notices it first).
"""

import pathlib
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxdistill.errors import Interrupted, TrainingFailed, UserError, unknown
from jaxdistill.runtime import (
    allocator,
    background,
    distributed,
    failures,
    files,
    garbage,
    mirror,
    pipes,
    preemption,
    remote,
)

if TYPE_CHECKING:  # imported when it is needed, so that Ctrl-C during imports gets one message
    from absl import flags

    from jaxdistill.config.schema import StageSettings
    from jaxdistill.runtime.preemption import StopSignal
    from jaxdistill.runtime.topology import Topology

PROFILED = 5
"""Steps that --profile records."""

VALUED = (
    "--config",
    "--workdir",
    "--from",
    "--coordinator",
    "--processes",
    "--process",
    "--stages",
    "--lane",
    "--devices",
    "--topology",
)
"""Flags whose value may be the next word."""

INTERRUPTED = "interrupted; what a run has saved remains, and the same command continues from it"


def main(argv: Sequence[str], stop: "StopSignal | None" = None) -> int:
    """Runs the command; returns the exit status.

    Args:
        argv: the words of the command line.
        stop: the flag of the run; one that signals set by default.
    """
    if any(word in ("-h", "--help") for word in argv[1:]) or len(argv) == 1:
        print(__doc__)
        return 0 if len(argv) > 1 else 2
    try:
        with background.watch():
            _main(list(argv), stop)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except TrainingFailed as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(str(error), file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        pipes.discard_output()
        return pipes.CLOSED
    except Exception as error:
        if failure := failures.describe(error):
            print(f"error: {failure}", file=sys.stderr)
            return 2
        if not distributed.is_joined():
            raise
        return distributed.report_failure(error)
    return 0


def _main(argv: list[str], stop: "StopSignal | None") -> None:
    stages, values = parse(argv)
    place = values["workdir"].value
    if place and not remote.is_url(place):
        files.local_path("--workdir", place)  # a mistake ends this process before it joins others
    distributed.join(values)
    target = _find_topology(values)
    if values["devices"].value is not None:
        _imagine(values["devices"].value, values["plan"].value)
    import jax

    from jaxdistill.pipeline import plan
    from jaxdistill.pipeline import run as pipeline

    stages = _select(stages, values["stages"].value)
    if values["plan"].value:
        plan.show(_lane(stages, values, None), _find_planned(place), target)
        return
    if not place:
        _lane(stages, values, None)
        raise UserError("no --workdir; name a folder for what the run writes, --workdir runs/NAME")
    with mirror.open_workdir("--workdir", place) as workdir:
        stages = _lane(stages, values, workdir)
        pipeline.run(stages, workdir, profile=values["profile"].value, finish=_report, stop=stop)
        if jax.process_index() == 0:
            _list_files(workdir)


def _find_planned(place: str) -> pathlib.Path:
    """Returns the folder whose finished stages a plan reads; a workdir on a store need not exist yet."""
    if not remote.is_url(place):
        return files.local_path("--workdir", place) if place else pathlib.Path()
    store = remote.open_store("--workdir", place)
    with remote.errors("--workdir", place):
        return files.input_path("--workdir", place) if store.list() else remote.local_folder("fetched", place)


def _report(workdir: pathlib.Path) -> None:
    """Writes the report and prints its summary; a config may train and leave the evaluation to another."""
    from jaxdistill.report import write as report

    if not (workdir / "results.json").exists():
        print(
            "\nno stage evaluated, so there is no table and no report; a stage of kind='evaluate', such as"
            " c.stages.evaluate = dict(kind='evaluate'), makes both\n"
        )
        return
    report.write_report(workdir)
    tables = [report.read_summary(workdir), report.read_parts(workdir)]
    print("\n" + "\n\n".join(table.to_text() for table in tables if table) + "\n")
    print("".join(f"{sentence}\n" for sentence in report.read_advice(workdir)))


def _imagine(devices: int, plan: bool) -> None:
    """Simulates a number of devices on the CPU: the bytes that each holds do not depend on their kind."""
    if not plan or devices < 1:
        raise UserError(f"--devices={devices} is for --plan alone, and 1 or more; a run takes the existing devices")
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)


def _find_topology(values: "flags.FlagValues") -> "Topology | None":
    """Returns the topology of `--topology`; programs are then compiled for its devices alone."""
    if not (name := values["topology"].value):
        return None
    if not values["plan"].value or values["devices"].value is not None:
        raise UserError(
            f"--topology={name} must come with --plan, and without --devices, which it replaces. A run takes the"
            " existing devices"
        )
    import jax

    from jaxdistill.runtime import topology

    jax.config.update("jax_platforms", "cpu")
    return topology.find(name)


def _select(stages: dict[str, "StageSettings"], text: str) -> dict[str, "StageSettings"]:
    """Returns the stages that `--stages` names, and those that they read; all if it names none."""
    from jaxdistill.config.references import stages_read

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in stages:
            raise unknown("--stages", name, stages, "a stage of the config")
        names += [read for read in stages_read(stages[name].networks) if read not in names]
    return {name: stage for name, stage in stages.items() if name in names or not names}


def _lane(
    stages: dict[str, "StageSettings"], values: "flags.FlagValues", workdir: pathlib.Path | None
) -> dict[str, "StageSettings"]:
    """Returns the settings of the lane of `--lane`, and makes its workdir from that of all lanes."""
    lane, old = values["lane"].value, _folder("--from", values)
    if lane is None and old is None:
        return stages
    if lane is None or old is None:
        raise UserError("--lane and --from belong together: --lane=3 --from=runs/SWEPT --workdir=runs/NEW")
    from jaxdistill.pipeline import extract_lane

    of_lane = extract_lane.settings_of_lane(stages, lane, old)
    if workdir is not None and not values["plan"].value:
        extract_lane.make_workdir(stages, of_lane, lane=lane, old=old, workdir=workdir)
    return of_lane


def _folder(flag: str, values: "flags.FlagValues") -> pathlib.Path | None:
    text = values[flag.removeprefix("--")].value
    return files.input_path(flag, text) if text else None


def _list_files(workdir: pathlib.Path) -> None:
    written = {
        "report.html": "the report; open it in a browser",
        "accuracy.svg": "accuracy, NLL or RMSE of every stage while it trained",
        "pareto.svg": "the same of every network over its bytes",
        "results.json": "the table above",
        "lanes.json": "the same of every lane",
        "predictions.npz": "predictions and scores of each example",
        "metrics.jsonl": "losses and rates by step",
        "tensorboard": "tensorboard --logdir",
        "config.json": "the resolved config",
        "environment.json": "versions, commit, devices",
        "compiled": "compiled programs, for the next start",
    }
    for name, what in written.items():
        if (workdir / name).exists():
            print(f"{workdir / name}  {what}")
    for folder in sorted(workdir.glob("*/checkpoints")):
        print(f"{folder}  checkpoints")
    for done in sorted(workdir.glob("*/done.json")):
        record = files.read_json(done, dict)
        if "folder" in record:
            print(f"{record['folder']}  the network in the format {record['format']}")


def parse(argv: list[str]) -> tuple[dict[str, "StageSettings"], "flags.FlagValues"]:
    """Reads the command line.

    Returns:
        The settings of every stage, and the flags other than those of the config.

    Raises:
        UserError: for mistakes in the config and the flags.
    """
    from absl import flags, logging

    from jaxdistill.config import load, overrides

    file, words = _take_config(argv)
    settings = [word for word in words if word.startswith("--config.")]
    raw = load.read(file)
    stages = load.stages_of_user(overrides.apply(raw, settings))
    print("".join(f"note: {line}\n" for line in overrides.find_shadowed(raw, settings)), end="")
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", "", "folder of the run", flag_values=values)
    flags.DEFINE_bool("plan", False, "print what would be done", flag_values=values)
    flags.DEFINE_integer("profile", 0, "number of early steps to record", lower_bound=0, flag_values=values)
    flags.DEFINE_integer("devices", None, "number of devices to plan for", flag_values=values)
    flags.DEFINE_string("topology", "", "TPUs or GPUs to plan for", flag_values=values)
    flags.DEFINE_string("stages", "", "stages to run alone", flag_values=values)
    flags.DEFINE_integer("lane", None, "lane to run alone", flag_values=values)
    flags.DEFINE_string("from", "", "the workdir of all lanes", flag_values=values)
    flags.DEFINE_bool("distributed", False, "join the other processes of the environment", flag_values=values)
    flags.DEFINE_string("coordinator", "", "host:port of process 0", flag_values=values)
    flags.DEFINE_integer("processes", 0, "number of processes", flag_values=values)
    flags.DEFINE_integer("process", -1, "index of this process", flag_values=values)
    others = [argv[0], *(word for word in words if word not in settings)]
    others = [f"--profile={PROFILED}" if word == "--profile" else word for word in others]
    try:
        positional = values(others)[1:]
    except (flags.Error, ValueError) as error:
        raise UserError(f"{error}. See python -m jaxdistill.launch --help") from error
    if positional:
        raise UserError(f"every argument must be a flag such as --config.batch=64, got {positional[0]!r}")
    logging.set_verbosity(logging.ERROR)
    return stages, values


def _take_config(argv: list[str]) -> tuple[str, list[str]]:
    """Returns the file of `--config`, and the other words, of which `--config.key value` is joined into one."""
    file, rest, words = "", [], iter(argv[1:])
    for word in words:
        if word.partition("=")[0] == "--config" and file:
            raise UserError(f"--config is given twice, as {file} and again; a run has one config")
        if word in VALUED or (word.startswith("--config.") and "=" not in word):
            value = next(words, "--")
            if value.startswith("--"):
                raise UserError(f"{word} has no value; write {word}=VALUE")
            word = f"{word}={value}"
        if word.startswith("--config="):
            file = word.removeprefix("--config=")
        else:
            rest.append(word)
    if not file:
        raise UserError("no --config; name a config file, as in --config configs/digits/kd.py")
    return file, rest


def run(argv: Sequence[str] | None = None) -> None:
    """Runs the command of `argv`, by default of this process, and ends the process with its status."""
    allocator.keep_freed()
    garbage.pause()
    try:
        with preemption.exit_on_signal(INTERRUPTED):
            status = main(sys.argv if argv is None else argv)
            preemption.ignore_signals()
    except Exception:
        if not distributed.is_joined():
            raise
        status = 1  # its message could not be written; the others must not wait for this process
    distributed.leave(status)


if __name__ == "__main__":
    run()
