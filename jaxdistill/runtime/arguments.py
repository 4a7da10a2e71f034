"""Arguments of a command, whose mistakes are one message, and its help."""

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from jaxdistill.errors import UserError
from jaxdistill.runtime import failures

Main = Callable[[Sequence[str]], int]
"""A command: it takes the words after its name, and returns the exit status."""


def with_help(text: str | None) -> Callable[[Main], Callable[..., int]]:
    """Returns a decorator of a command, which prints `text` for `-h`, `--help`, or without words, a mistake."""

    def decorate(main: Main) -> Callable[..., int]:
        @functools.wraps(main)
        def run(words: Sequence[str] | None = None) -> int:
            words = sys.argv[1:] if words is None else words
            if words and not {*words} & {"-h", "--help"}:
                return main(words)
            print(text)
            return 0 if words else 2

        return run

    return decorate


@contextlib.contextmanager
def writing(flag: str, folder: str) -> Iterator[None]:
    """Makes errors of writing to the folder of a flag a `UserError`."""
    try:
        yield
    except OSError as error:
        failure = failures.describe(error)
        raise UserError(str(failure or f"{flag} must be a folder to write to, got {folder!r} ({error})")) from error


class Arguments(argparse.ArgumentParser):
    """A parser without abbreviations; the help is the module's docstring, which the command prints itself."""

    def __init__(self, command: str):
        super().__init__(prog=command, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises `UserError` with the message, in place of a page of usage."""
        raise UserError(f"{message}. See {self.prog} --help")
