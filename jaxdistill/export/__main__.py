"""python -m jaxdistill.export --workdir RUN --network NAME --format FORMAT --out FOLDER: exports a network of a run."""

import sys

from jaxdistill.pipeline.export import main
from jaxdistill.runtime.pipes import ending_at_closed_pipe

if __name__ == "__main__":
    sys.exit(ending_at_closed_pipe(main))
