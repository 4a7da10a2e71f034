"""A model in one file: the worked example of CONTRIBUTING keeps the promises of a model and trains."""

import re
import sys

import jax
import pytest

import runs
from conftest import ROOT
from jaxdistill import models
from jaxdistill.config import registry
from jaxdistill.conformance import models as promises
from jaxdistill.conformance import promise
from jaxdistill.errors import UserError

NAME = "conv_net"


@pytest.fixture
def example(tmp_path, monkeypatch):
    """Adds the file of the example to the models; returns its class, and the line of a config that uses it."""
    section = (ROOT / "CONTRIBUTING.md").read_text().partition("## A model is one file\n")[2].partition("\n## ")[0]
    text, line = re.findall(r"```python\n(.*?)```", section, re.S)
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / f"{NAME}.py").write_text(text)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder)])
    monkeypatch.delitem(sys.modules, f"jaxdistill.models.{NAME}", raising=False)
    registry._member.cache_clear()
    yield registry.find("model", NAME), line.strip()
    registry._member.cache_clear()


def test_the_example_keeps_the_promises_of_a_model(example):
    model, _ = example
    results = promise.run(promises.PROMISES, lambda: promises.make_subject(model, channels=(4, 5)))
    statuses = {result.name: result.status for result in results}
    assert len(statuses) == len(promises.PROMISES)
    assert [name for name, status in statuses.items() if status != "ok"] == ["batch statistics change in training only"]
    assert (model.__module__, model.__name__) == (f"jaxdistill.models.{NAME}", "ConvNet")
    with pytest.raises(UserError, match="number of channels must be at least 1"):
        model(3, channels=())


def test_the_example_has_the_taps_of_its_docstring(example):
    model, _ = example
    output = jax.eval_shape(lambda: model(3, channels=(4, 5)).init_with_output(jax.random.key(0), promises.IMAGES)[0])
    shapes = {name: tap.shape for name, tap in output.taps.items()}
    assert shapes == {"stage1": (4, 4, 4, 4), "stage2": (4, 2, 2, 5), "pooled": (4, 5)}


@pytest.mark.slow
def test_the_example_is_trained_from_a_config(example, tmp_path):
    _, line = example
    config = tmp_path / "config.py"
    config.write_text(
        "import runpy\n"
        f"def get_config(mode=''):\n    c = runpy.run_path({runs.TINY!r})['get_config'](mode)\n"
        f"    {line}\n    return c\n"
    )
    assert runs.launched(tmp_path / "run", config=str(config)) == 0
    first, last = (runs.weights(tmp_path / "run", "distil", step) for step in (8, 12))
    kernel = "params.student.conv1.kernel"
    assert first[kernel].shape == (3, 3, 1, 8)
    assert (first[kernel] != last[kernel]).any()
