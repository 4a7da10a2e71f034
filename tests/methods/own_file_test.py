"""A method is one file: what it says there is found, planned, trained, saved, and refused where it cannot be."""

import re
import sys

import conformance_test
import numpy as np
import pytest

import runs
from conftest import ROOT
from jaxdistill import methods
from jaxdistill.config import registry
from jaxdistill.conformance import methods as conformance
from jaxdistill.conformance import promise
from runs import launched

TOY = '''"""A hint through an adapter, with a count of what it has seen.

https://arxiv.org/abs/1412.6550

    loss = mean_i (W h_s - h_t)_i^2
"""

import flax.linen as nn
import jax.numpy as jnp

from jaxdistill.core import Method


class ToyHint(Method):
    """`scale` multiplies the value."""

    scale: float = 1.0
    same_classes = False
    needs_whole_batch = WHOLE

    @nn.compact
    def __call__(self, student, teacher, batch):
        seen = self.variable("memory", "seen", lambda: jnp.zeros((), jnp.float32))
        if not self.is_initializing():
            seen.value += teacher.logits.shape[0]
        target = teacher.tap("hidden1")
        hint = nn.Dense(target.shape[-1], name="adapter")(student.tap("hidden1"))
        return self.scale * jnp.mean((hint - target) ** 2, -1)
'''


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Adds a method's file to those that are found, and returns a config that uses it."""

    def add(name, text, term):
        folder = tmp_path / "methods"
        folder.mkdir()
        (folder / f"{name}.py").write_text(text)
        monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, f"jaxdistill.methods.{name}", raising=False)
        registry._member.cache_clear()
        file = tmp_path / "mine.py"
        file.write_text(
            "import runpy\nfrom ml_collections import ConfigDict\n"
            f"def get_config(mode=''):\n    c = runpy.run_path({runs.TINY!r})['get_config'](mode)\n"
            f"    {term}\n    return c\n"
        )
        return str(file)

    yield add
    registry._member.cache_clear()


@pytest.fixture(params=[False])
def toy(added, request):
    """A config that uses a method from a file of its own."""
    text = TOY.replace("WHOLE", str(request.param))
    return added("toy_hint", text, "c.terms.hint = dict(method='toy_hint', weight=0.5)")


def test_it_is_planned_with_the_shapes_it_infers(toy, tmp_path, capsys):
    assert launched(tmp_path / "run", "--plan", "--config.networks.student.widths=(7,)", config=toy) == 0
    said = capsys.readouterr().out
    assert "hint: ToyHint student <- teacher" in said
    assert "params/adapter/kernel (7, 24) float32" in said
    assert f"{7 * 24 + 24:,} of methods" in said


@pytest.mark.slow
def test_it_is_trained_logged_and_saved(toy, tmp_path):
    assert launched(tmp_path / "run", "--config.terms.hint.scale=2", config=toy) == 0
    arrays = runs.weights(tmp_path / "run", "distil", 12)
    assert arrays["params.hint.adapter.kernel"].shape == (8, 24)
    assert arrays["variables.hint.memory.seen"] == 12 * 64
    before = runs.weights(tmp_path / "run", "distil", 8)
    assert not np.array_equal(arrays["params.hint.adapter.kernel"], before["params.hint.adapter.kernel"])
    assert any("hint" in line for line in runs.lines(tmp_path / "run"))


@pytest.mark.parametrize("toy", [True], indirect=True)
def test_one_that_needs_the_whole_batch_is_refused_by_accumulation(toy, tmp_path, capsys):
    assert launched(tmp_path / "run", "--config.accumulate=2", config=toy) == 2
    assert "term 'hint' compares the examples of a batch with each other" in capsys.readouterr().err


@pytest.mark.slow
def test_the_worked_example_of_contributing_keeps_the_promises_and_trains(added, tmp_path):
    """The file and the line of config, taken from the page."""
    example, term = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[:2]
    config = added("cosine_hint", example, term.strip())
    results = promise.run(
        conformance.PROMISES, lambda: conformance.make_subject(registry.find("method", "cosine_hint"))
    )
    statuses = {result.name: result.status for result in results}
    assert len(statuses) == len(conformance.PROMISES)
    assert "FAIL" not in statuses.values(), statuses
    assert [*statuses.values()].count("skip") <= 3, statuses
    conformance_test.test_docstring_has_citation_and_formula("cosine_hint")
    conformance_test.test_it_is_one_file_of_a_size_to_be_read("cosine_hint")
    assert launched(tmp_path / "run", config=config) == 0
    arrays = runs.weights(tmp_path / "run", "distil", 12)
    assert arrays["params.hint.pooled.kernel"].shape == (8, 24)
    assert any("hint" in line for line in runs.lines(tmp_path / "run"))
