"""python -m jaxdistill.conformance NAME: checks the promises of a class."""

import sys

from jaxdistill.conformance.command import main
from jaxdistill.runtime.pipes import ending_at_closed_pipe

if __name__ == "__main__":
    sys.exit(ending_at_closed_pipe(main))
