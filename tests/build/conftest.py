import pathlib

import pytest

from jaxdistill.pipeline import run
from runs import parsed


@pytest.fixture(scope="session")
def stages():
    """The stages of the tiny config, built: teacher, distil, evaluate."""
    return run.prepare(parsed(), pathlib.Path("nowhere"))
