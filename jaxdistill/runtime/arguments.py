"""Arguments of a command, whose mistakes are one message."""

import argparse
from typing import NoReturn

from jaxdistill.errors import UserError


class Arguments(argparse.ArgumentParser):
    """A parser without abbreviations; the help is the module's docstring, which the command prints itself."""

    def __init__(self, command: str):
        super().__init__(prog=command, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises `UserError` with the message, in place of a page of usage."""
        raise UserError(f"{message}. See {self.prog} --help")
