"""The tiny job, and a student that learns its teacher's principal components."""

import pathlib
import runpy

from ml_collections import ConfigDict

TINY = str(pathlib.Path(__file__).parent / "tiny.py")


def get_config(mode: str = "") -> ConfigDict:
    c = runpy.run_path(TINY)["get_config"](mode)
    c.networks.reduced = dict(source="head", of="teacher", tap="pooled", head="pca", components=4)
    c.networks.reduced.weights = "stage:components"
    c.terms.hint = dict(method="fitnet", layers="pooled=reduced", teacher="reduced", weight=1.0)
    with c.unlocked():
        c.stages.components = dict(kind="pca", networks=dict(teacher={}, reduced=dict(weights="")))
    return c
