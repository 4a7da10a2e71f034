"""python -m jaxdistill.report WORKDIR: writes the report of a run."""

import sys

from jaxdistill.report.write import main
from jaxdistill.runtime.pipes import ending_at_closed_pipe

if __name__ == "__main__":
    sys.exit(ending_at_closed_pipe(main))
