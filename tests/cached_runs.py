"""The config of cached teachers, built with changed sections."""

import pathlib

from jaxdistill.config import load
from jaxdistill.pipeline import run

CACHED = str(pathlib.Path(__file__).parent / "configs" / "cached.py")
TOP = dict(source="cached", cache="stage:cache")


def prepared(workdir, **sections):
    """Prepares the short config with some sections of its stages, or of the top level, overwritten."""
    whole = load.read(CACHED + ":short")
    for name, own in sections.items():
        into = whole["stages"].get(name, whole)
        for key, value in own.items():
            into[key] = {**into.get(key, {}), **value} if isinstance(value, dict) else value
    return run.prepare(load.stages(whole), workdir)
