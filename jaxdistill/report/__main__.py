"""python -m jaxdistill.report WORKDIR: writes the report of a run."""

import sys

from jaxdistill.report.write import main

if __name__ == "__main__":
    sys.exit(main())
