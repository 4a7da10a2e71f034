"""A method is one file: what it says there is found, planned, trained, saved, and refused where it cannot be."""

import numpy as np
import pytest

import runs
from jaxdistill import methods, registry
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


@pytest.fixture(params=[False])
def toy(tmp_path, monkeypatch, request):
    """A config that uses a method from a file of its own."""
    folder = tmp_path / "methods"
    folder.mkdir()
    (folder / "toy_hint.py").write_text(TOY.replace("WHOLE", str(request.param)))
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    monkeypatch.delitem(__import__("sys").modules, "jaxdistill.methods.toy_hint", raising=False)
    registry._member.cache_clear()
    file = tmp_path / "mine.py"
    file.write_text(
        "import runpy\n"
        f"def get_config(mode=''):\n    c = runpy.run_path({runs.TINY!r})['get_config'](mode)\n"
        "    c.terms.hint = dict(method='toy_hint', weight=0.5)\n    return c\n"
    )
    yield str(file)
    registry._member.cache_clear()


def test_it_is_planned_with_the_shapes_it_infers(toy, tmp_path, capsys):
    assert launched(tmp_path / "run", "--plan", "--config.networks.student.widths=(7,)", config=toy) == 0
    said = capsys.readouterr().out
    assert "hint: ToyHint student <- teacher" in said
    assert "params/adapter/kernel (7, 24) float32" in said
    assert f"{7 * 24 + 24:,} of methods" in said


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
