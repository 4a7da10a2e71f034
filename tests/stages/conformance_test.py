"""Every kind of stage that is found keeps the promises of kinds; so does one in a user's package."""

import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from jaxdistill.build.kind import Kind
from jaxdistill.build.stage import Stage
from jaxdistill.config import registry
from jaxdistill.conformance import kinds, promise
from jaxdistill.data import datasets

HEAD = {"source": "head", "head": "pca", "of": "teacher", "tap": "pooled", "components": 2}
MLP = kinds.KEYS["networks"]["teacher"]
VIT = {"source": "trained", "model": "vit", "patch": 4, "size": 8, "width": 8, "heads": 2, "layers": 1}
SPARSE = MLP | {"compress": {"sparse": {"view": "sparse"}}}
KEYS = {
    "compress": {"networks": {"teacher": MLP, "student": SPARSE}},
    "inherit": {"networks": {"teacher": MLP, "student": {**MLP, "widths": (2,)}}, "inherit": {"match": ""}},
    "export": {"networks": {"teacher": MLP, "student": VIT}, "export": {"network": "student"}},
    "merge": {"merge": {"networks": ("student", "teacher")}},
    "pca": {"networks": {"teacher": MLP, "reduced": HEAD}},
    "sklearn": {"sklearn": {"name": "logistic"}},
}
"""Keys that a kind needs."""


class Counting(Kind):
    """Counts the networks."""

    def run(self, stage: Stage, workdir: pathlib.Path, log: Callable[[str], None], profile: int) -> dict[str, Any]:
        return {"networks": len(stage.networks)}


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    made = {}
    path = tmp_path_factory.mktemp("logits") / "teacher.npz"
    label = datasets.load("digits").split("train").labels()
    np.savez(path, train_logits=np.eye(10, dtype=np.float32)[label], train_id=np.arange(len(label)))
    keys = KEYS | {"logits": {"logits": {"path": str(path)}}}

    def subject(name):
        if name not in made:
            made[name] = kinds.make_subject(registry.find("kind", name), **keys.get(name, {}))
        return made[name]

    return subject


@pytest.mark.parametrize("check", [promise.check for promise in kinds.PROMISES], ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", registry.names("kind"))
def test_a_kind_keeps_the_promise(subjects, name, check):
    try:
        check(subjects(name))
    except promise.NotApplicable as reason:
        pytest.skip(str(reason))


def test_a_kind_of_a_user_keeps_the_promises():
    results = list(promise.run(kinds.PROMISES, lambda: kinds.make_subject(Counting)))
    assert [str(result) for result in results if result.status == "FAIL"] == []


class Naming(Counting):
    """Names what does not exist, and fails in its check."""

    writes_results = "yes"

    def measured(self, stage: Stage) -> list[str]:
        return ["nobody"]

    def inputs(self, stage: Stage) -> list[tuple[str, bool, list[str]]]:
        return [("nowhere", False, [])]

    def check(self, stage: Stage) -> None:
        if stage.settings.evaluate.split == "nowhere":
            raise KeyError("nowhere")

    def describe(self, stage: Stage) -> list[str]:
        return ["two\nlines"]

    def is_done(self, stage: Stage, workdir: pathlib.Path) -> bool:
        return True


def test_broken_promises_are_found():
    results = {result.name: result for result in promise.run(kinds.PROMISES, lambda: kinds.make_subject(Naming))}
    broken = [name for name, result in results.items() if result.status == "FAIL"]
    assert broken == [
        "its facts are booleans",
        "it names networks of the stage",
        "it names splits of the data",
        "it describes itself in lines",
        "it refuses settings by UserErrors alone",
        "it is not done before it ran",
    ]
    assert "nobody" in results["it names networks of the stage"].reason
