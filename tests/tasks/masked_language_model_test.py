"""Masked language models: trained on hidden tokens, and never measured by next tokens."""

import numpy as np
import pytest

from jaxdistill.config import load
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run

ROLES = ("train", "validation", "test")
ENCODER = dict(source="trained", model="encoder", predicts="token", vocabulary=11, length=6, layers=1, width=8, heads=2)


def config(folder, **arrays):
    tokens = np.arange(24).reshape(4, 6) % 11
    arrays = {f"{role}_{name}": array for role in ROLES for name, array in {"tokens": tokens, **arrays}.items()}
    np.savez(folder / "texts.npz", **arrays)
    return {
        "data": {"name": "npz", "path": str(folder / "texts.npz")},
        "networks": {"student": ENCODER},
        "terms": {"task": {"method": "cross_entropy"}},
        "batch": 8,
        "steps": 2,
        "stages": {"train": {}},
    }


@pytest.fixture
def targets():
    return np.where(np.arange(24).reshape(4, 6) % 5 == 0, 3, -1)


def test_the_task_follows_from_targets(targets, tmp_path):
    made = config(tmp_path, targets=targets) | {"checkpoint": {"keep": "best"}, "evaluate": {"every": 1}}
    stage = run.prepare(load.stages(made), tmp_path)["train"]
    assert stage.data.task.name == "masked_language_model"
    assert stage.evaluation.ranking[0] == "student/nll"
    batch = next(iter(stage.data.batches("validation")))
    prepared = stage.data.prepare(batch)
    np.testing.assert_array_equal(prepared["valid"][:4], targets >= 0)


def test_without_targets_it_is_refused_and_the_message_has_the_remedy(tmp_path):
    with pytest.raises(UserError, match="must not depend on later tokens, .* set task='masked_language_model'"):
        run.prepare(load.stages(config(tmp_path)), tmp_path)
    made = config(tmp_path) | {"task": "masked_language_model"}
    with pytest.raises(UserError, match="term 'task' must have labels"):
        run.prepare(load.stages(made), tmp_path)


def test_metrics_of_next_tokens_do_not_fit(targets, tmp_path):
    made = config(tmp_path, targets=targets) | {"evaluate": {"metrics": ("bits_per_token",)}}
    with pytest.raises(UserError, match="must be metrics of the task masked_language_model, got 'bits_per_token'"):
        run.prepare(load.stages(made), tmp_path)
