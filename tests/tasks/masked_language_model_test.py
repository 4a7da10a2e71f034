"""Masked language models: trained on hidden tokens, and never measured by next tokens."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.config import load
from jaxdistill.data.dataset import DatasetSettings
from jaxdistill.data.tokenized_texts import TextRows, tokenize
from jaxdistill.errors import UserError
from jaxdistill.pipeline import run
from jaxdistill.tasks.batches import batches
from jaxdistill.tasks.masked_language_model import MaskedLanguageModel
from tokenizer_files import PIECES, write_byte_level, write_wordpiece

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


def tokenized(folder, pieces=False):
    write = write_byte_level(folder, PIECES) if pieces else write_wordpiece(folder)
    rows = TextRows(["good unwatchable film, bad film"] * 8)
    settings = DatasetSettings("rows", tokenizer=write, length=12)
    return tokenize({"train": rows, "test": rows}, (), settings, lambda role, position: role)


def test_words_of_a_tokenizer_are_hidden_anew_in_each_epoch_and_alike_in_each_evaluation(tmp_path):
    dataset = tokenized(tmp_path)
    task = MaskedLanguageModel(dataset)
    assert (task.num_classes, task.has_labels, task.draws_masks) == (15, True, True)
    epochs = [*batches(dataset, batch=8, steps=2, task="masked_language_model")]
    assert [set(batch["view"].tolist()) for batch in epochs] == [{0}, {1}]
    assert bool(jnp.any(epochs[0]["targets"] != epochs[1]["targets"]))
    once, again = (next(batches(dataset, "test", batch=8, seed=seed, task="masked_language_model")) for seed in (0, 1))
    original = dataset.split("test").take(np.arange(8))["tokens"]
    for name in ("tokens", "label", "valid"):
        np.testing.assert_array_equal(once[name], again[name])
    np.testing.assert_array_equal(np.where(once["valid"] > 0, once["label"], once["tokens"]), original)
    assert 0 < once["valid"].sum() < 8 * 8


def test_a_tokenizer_without_a_mask_token_is_refused(tmp_path):
    with pytest.raises(UserError, match="data.tokenizer must have a mask token for task 'masked_language_model'"):
        MaskedLanguageModel(tokenized(tmp_path, pieces=True)).check_dataset()
