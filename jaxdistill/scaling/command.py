"""jaxdistill worth RUN RUN ... [--student NAME --control NAME] [--times 4] [--at AXIS=VALUE,...] [--out FOLDER]

    RUN         the folder of a finished run, or of a sweep (jaxdistill sweep), of which the finished runs count. They
                differ in the size of the student, in examples and in steps, three values of each axis that varies;
                lanes of several seeds are repetitions
    --student   its name in the results, or a pattern such as 'taught_*' if a run has several sizes of it
    --control   the same of the network without the teacher; both are found if the runs have one pair
    --metric    the loss; nll or rmse by default
    --times     predict so many times the largest value of each axis, and of all axes; 4 by default
    --at        predict one run instead: parameters=9610,steps=1600; axes that are left out have their largest value
    --out       a folder for worth.json and worth.md; none by default

Fits loss = E + A/parameters^a + B/examples^b + C/(steps^c parameters^d), and prints the predicted loss of the student
and of its control, with the 5th and 95th percentile over resamples, and whether the teacher is worth it.
"""

import argparse
import pathlib
from collections.abc import Sequence

from jaxdistill.errors import UserError
from jaxdistill.runtime import files
from jaxdistill.runtime.arguments import Arguments, with_help, writing
from jaxdistill.scaling.worth import Worth, worth


@with_help(__doc__)
def main(words: Sequence[str]) -> int:
    """Prints the predictions from the runs that the command line names; returns the exit status.

    Raises:
        UserError: for a mistake in the words or the runs.
    """
    given = parse(words)
    prediction = worth(
        given.runs,
        student=given.student,
        control=given.control,
        metric=given.metric,
        times=given.times,
        at=read_place(given.at),
    )
    print(prediction)
    if given.out:
        out = files.local_path("--out", given.out)
        with writing("--out", given.out):
            written = write_prediction(prediction, out)
        print("".join(f"\n{path}" for path in written))
    return 0


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Reads the command line."""
    parser = Arguments("jaxdistill worth")
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--times", type=float, default=4.0)
    for flag in ("--student", "--control", "--metric", "--at", "--out"):
        parser.add_argument(flag, default="")
    given = parser.parse_intermixed_args(list(words))
    if given.control and not given.student:
        raise UserError(f"--student must be given with --control, got --control {given.control} alone. Name both")
    return given


def read_place(text: str) -> dict[str, float]:
    """Returns the axes of `--at` with their values."""
    place = {}
    for entry in text.split(",") if text else ():
        axis, _, value = entry.partition("=")
        try:
            place[axis.strip()] = float(value)
        except ValueError as error:
            raise UserError(
                f"--at must be AXIS=NUMBER,..., got {entry!r}. Write --at parameters=9610,steps=1600"
            ) from error
    return place


def write_prediction(prediction: Worth, out: pathlib.Path) -> list[pathlib.Path]:
    """Writes the numbers, and the table with its sentences as Markdown; returns the files."""
    text = "\n\n".join([prediction.table().to_markdown(), *prediction.sentences()])
    files.write_json(out / "worth.json", prediction.records())
    files.write_text(out / "worth.md", f"{text}\n")
    return [out / "worth.json", out / "worth.md"]
