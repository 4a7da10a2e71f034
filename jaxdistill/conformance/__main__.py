"""python -m jaxdistill.conformance NAME: checks the promises of a class."""

import sys

from jaxdistill.conformance.command import main

if __name__ == "__main__":
    sys.exit(main())
