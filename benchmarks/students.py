"""Cost of several students under one teacher in one step, against the step of the largest of them alone.

    python benchmarks/students.py [--rounds 9] [--write FILE.json]

The stage is `distil` of configs/digits/students.py: a teacher and four students of three families, each with its own
optimizer. Other rows are the same stage with one student, and the teacher's forward pass alone. FLOPs are those of
matrix products and convolutions in the step as it is compiled. A round takes some steps of each program in turn; `ms`
and `times the largest` are medians over rounds, the latter of the ratio within a round.
"""

import argparse
import dataclasses
import statistics
from typing import Any

import jax
import results
import timing
from lanes import Steps

from jaxdistill.build import resolve
from jaxdistill.build.stage import Stage
from jaxdistill.config import load as configs
from jaxdistill.networks import run
from jaxdistill.runtime import allocator
from jaxdistill.stages import training_plan
from jaxdistill.train import flops

CONFIG, STAGE = "configs/digits/students.py", "distil"


def build(students: tuple[str, ...]) -> Stage:
    """Builds the stage with some of its students."""
    settings = configs.load(CONFIG)[STAGE]
    terms = {name: term for name, term in settings.terms.items() if term.student in students}
    networks = {name: network for name, network in settings.networks.items() if name in ("teacher", *students)}
    return resolve.stage(STAGE, dataclasses.replace(settings, networks=networks, terms=terms))


def list_students() -> tuple[str, ...]:
    """Returns the students of the stage."""
    return tuple(name for name in configs.load(CONFIG)[STAGE].networks if name != "teacher")


def count_step(stage: Stage) -> int:
    """Returns the FLOPs of a step."""
    program = training_plan.step_program(stage)
    return sum(flops.count(program.function, *program.shapes).values())


def count_teacher(stage: Stage) -> int:
    """Returns the FLOPs of the teacher's forward pass for a batch."""
    teacher, frozen = {"teacher": stage.networks["teacher"]}, stage.shapes.frozen_in_step

    def forward(frozen: Any, batch: Any) -> Any:
        return run(teacher, frozen, batch, None)[0]["teacher"].logits

    return sum(flops.count(jax.jit(forward), frozen, dict(stage.data.batch)).values())


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for the teacher's forward pass, for each student alone and for all of them."""
    students = list_students()
    stages = {name: build((name,)) for name in students}
    counts = {name: count_step(stage) for name, stage in stages.items()}
    students = tuple(sorted(students, key=lambda name: counts[name]))
    largest = students[-1]
    stages = {name: stages[name] for name in students} | {"all": build(students)}
    counts["all"], forward = count_step(stages["all"]), count_teacher(stages["all"])
    programs = {name: Steps(stage) for name, stage in stages.items()}
    steps = max(1, round(0.5 / programs[largest].run(2)))
    rounds = [{name: program.run(steps) for name, program in programs.items()} for _ in range(given.rounds)]
    rows: list[dict[str, Any]] = [
        {
            "name": "the teacher's forward pass",
            "GFLOPs": forward / 1e9,
            "FLOPs, times the largest": forward / counts[largest],
        }
    ]
    for name in programs:
        title = f"all {len(students)} students" if name == "all" else f"{name} alone"
        rows.append(
            {
                "name": title,
                "GFLOPs": counts[name] / 1e9,
                "FLOPs, times the largest": counts[name] / counts[largest],
                "teacher over students": forward / (counts[name] - forward),
                "ms": 1e3 * statistics.median(seconds[name] for seconds in rounds),
                "times the largest": statistics.median(seconds[name] / seconds[largest] for seconds in rounds),
            }
        )
    return rows


def main() -> None:
    allocator.keep_freed()  # as every launch does
    given = timing.make_parser(__doc__, rounds=9).parse_args()
    results.write(given.write, {"": measure(given)})


if __name__ == "__main__":
    main()
