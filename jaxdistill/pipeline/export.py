"""python -m jaxdistill.export --workdir RUN --network NAME --format FORMAT --out FOLDER [--bits 8]

    --workdir   the folder of a finished run
    --network   a network by its name in the last stage that has it, or STAGE#NETWORK; with @LANE of a run in lanes
    --format    safetensors, stablehlo, onnx or huggingface
    --out       the folder of the export, which must not exist
    --bits      8 or 4: kernels and embeddings are integers in the file; 0, the default, for float32

Nothing is trained. The export is read again in a fresh process without jaxdistill and compared with the network on
examples of the test split, and `export.json` in it has the result. Exit status: 0 when it is written; 2 for a mistake,
which the message names.
"""

import contextlib
import pathlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from jaxdistill.errors import UserError
from jaxdistill.export.write import find_format, write_export
from jaxdistill.pipeline.find_network import find_network
from jaxdistill.runtime import failures, files, preemption
from jaxdistill.runtime.arguments import Arguments, with_help
from jaxdistill.stages.export import examples_of, make_exported


@with_help(__doc__)
def main(words: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    try:
        with _raising_on_signal():
            lines = _export(words)
        for line in lines:
            print(line)
    except Exception as error:
        failure = failures.describe(error, failures.REPEAT)
        if failure is None:
            raise
        print(f"error: {failure}", file=sys.stderr)
        return 2
    return 0


@contextlib.contextmanager
def _raising_on_signal() -> Iterator[None]:
    """Ends the command by an exception on a signal, so that it removes what it has written in part."""

    def stop(number: int, _frame: FrameType | None) -> NoReturn:
        print("interrupted; nothing was exported. Repeat the command", file=sys.stderr)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.signal(number, stop) for number in preemption.NUMBERS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _export(words: Sequence[str]) -> list[str]:
    parser = Arguments("python -m jaxdistill.export")
    for flag in ("workdir", "network", "format", "out"):
        parser.add_argument(f"--{flag}", required=True)
    parser.add_argument("--bits", type=int, default=0)
    flags = parser.parse_args(list(words))
    out = files.local_path("--out", flags.out)
    workdir = files.input_path("--workdir", flags.workdir)
    return export_network(workdir, flags.network, format_name=flags.format, out=out, bits=flags.bits)


def export_network(workdir: pathlib.Path, network: str, *, format_name: str, out: pathlib.Path, bits: int) -> list[str]:
    """Writes a network of a finished run as files, by the code of a stage of kind "export".

    Args:
        workdir: of the run.
        network: its name in the last stage that has it, or `STAGE#NETWORK`; either with `@LANE`.
        format_name: the name of a format.
        out: the folder, which must not exist.
        bits: of kernels and embeddings, 8 or 4; 0 for float32.

    Returns:
        Lines for the log.

    Raises:
        UserError: for names that do not exist, an existing folder, and a network that the format does not have.
    """
    find_format(format_name, "--format")
    if out.exists() or out.is_symlink():
        raise UserError(f"--out must be a path that does not exist, got {str(out)!r}. Remove it, or name another")
    above = next(parent for parent in out.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"--out must be in a folder, got {str(out)!r} in the file {str(above)!r}. Name another")
    finished = find_network(workdir, network)
    exported = make_exported(finished.stage, finished.template, finished.variables, workdir, bits=bits)
    return write_export(out, exported, format_name, *examples_of(finished.stage, exported))
