"""Checks of a stage across its sections."""

import dataclasses

import numpy as np
import pytest

import runs
from jaxdistill.build import validate
from jaxdistill.config import load
from jaxdistill.core import Term
from jaxdistill.errors import UserError
from jaxdistill.methods.cross_entropy import CrossEntropy
from jaxdistill.methods.kd import KD
from jaxdistill.methods.rkd import RKD
from jaxdistill.pipeline import run as pipeline
from runs import launched

MINE = """import runpy
def get_config(mode=''):
    c = runpy.run_path({tiny!r})['get_config'](mode)
    {lines}
    return c
"""


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "c.terms.hint = dict(method='cirkd', layers='pooled')",
            "term 'hint': layers must be maps or tokens, got [64, 8]",
        ),
        (
            "c.terms.hint = dict(method='tinybert')",
            "term 'hint': method TinyBERT cannot compare the outputs of 'student' and 'teacher'",
        ),
        (
            "c.terms.hint = dict(method='fitnet', layers='stage2')",
            "term 'hint': tap must be an existing name, got 'stage2'",
        ),
        ("c.terms.hint = dict(method='fitnet', layers=',')", "term 'hint': layers must name taps"),
        (
            "c.terms.hint = dict(method='crd')",
            "remembers examples=50000 by their index, and the training split has 1077",
        ),
        (
            "c.networks.a = dict(source='derivative', of='student', directions=2)\n"
            "    c.networks.b = dict(source='derivative', of='teacher', directions=3)\n"
            "    c.terms.slope = dict(method='sobolev', student='a', teacher='b')",
            "terms.slope: student and teacher must agree in ['mode', 'directions', 'step', 'seed'], got 'a' with",
        ),
        (
            "c.networks.a = dict(source='derivative', of='student')\n"
            "    c.terms.slope = dict(method='sobolev', student='a', teacher='teacher')",
            "terms.slope: student and teacher must agree in ['mode', 'directions', 'step', 'seed'], got 'a' with",
        ),
        (
            "c.networks.a = dict(source='derivative', of='student', mode='vjp')\n"
            "    c.networks.b = dict(source='derivative', of='teacher', mode='vjp')\n"
            "    c.terms.slope = dict(method='sobolev', student='a', teacher='b')",
            "term 'slope': derivatives along directions must be",
        ),
    ],
)
def test_terms_that_cannot_be_computed_are_reported_by_name(tmp_path, capsys, lines, message):
    file = tmp_path / "mine.py"
    file.write_text(MINE.format(tiny=runs.TINY, lines=lines))
    assert launched(tmp_path / "run", config=str(file)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "run" / "teacher").exists()


def with_settings(stage, **changed):
    return dataclasses.replace(stage, settings=dataclasses.replace(stage.settings, **changed))


def with_terms(stage, **terms):
    return dataclasses.replace(stage, terms=terms)


TASK = Term(CrossEntropy(), teacher=None)


def test_a_stage_of_the_tiny_config_is_valid(stages):
    for stage in stages.values():
        validate.check(stage)
    validate.check_training(stages["distil"])


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({}, "stage 'distil' has no terms, so nothing to learn"),
        ({"kd": Term(KD(), student="teacher", teacher="student")}, "term 'kd' teaches 'teacher', which does not learn"),
        ({"loss": TASK}, "a term cannot be named 'loss'"),
        ({"student": TASK}, "a term cannot be named 'student'"),
        ({"a/b": TASK}, "a term cannot be named 'a/b'"),
    ],
)
def test_terms_that_do_not_train_the_stage_are_refused(stages, terms, message):
    with pytest.raises(UserError, match=message):
        validate.check_training(with_terms(stages["distil"], **terms))


def test_a_stage_trains_networks_that_its_terms_teach(stages):
    stage = stages["distil"]
    with pytest.raises(UserError, match=r"trains networks \['other'\], and no term teaches them"):
        validate.check_training(
            dataclasses.replace(stage, networks={**stage.networks, "other": stage.networks["student"]})
        )
    frozen = {name: network for name, network in stage.networks.items() if name == "teacher"}
    with pytest.raises(UserError, match="stage 'distil' trains no network"):
        validate.check_training(dataclasses.replace(stage, networks=frozen))


def test_a_method_that_compares_examples_refuses_accumulation(stages):
    stage = with_terms(stages["distil"], rkd=Term(RKD()))
    validate.check_training(stage)
    with pytest.raises(UserError, match=r"term 'rkd' compares the examples of a batch .* accumulate=2 would change"):
        validate.check_training(with_settings(stage, accumulate=2))


def test_a_method_of_labels_needs_visible_ones(stages):
    stage = stages["distil"]
    hidden = with_settings(stage, data=dataclasses.replace(stage.settings.data, unlabelled=True))
    with pytest.raises(UserError, match="term 'task' learns from labels, and the training data of stage 'distil'"):
        validate.check_training(hidden)


@pytest.mark.parametrize(("answer", "method"), [("labels", "binary_cross_entropy"), ("label", "cross_entropy")])
def test_labels_that_are_all_missing_are_refused(tmp_path, answer, method):
    missing = np.full((6, 2), np.nan) if answer == "labels" else np.full(6, -1)
    arrays = {f"{role}_features": np.eye(6) for role in ("train", "test")}
    names = dict(class_names=["a", "b"])
    np.savez(tmp_path / "a.npz", **arrays, **names, **{f"{role}_{answer}": missing for role in ("train", "test")})
    keys = dict(
        data=dict(name="npz", path=str(tmp_path / "a.npz")),
        steps=1,
        networks=dict(student=dict(source="trained", model="mlp", widths=(2,))),
        terms=dict(task=dict(method=method)),
        evaluate=dict(metrics=()),
    )
    with pytest.raises(UserError, match="term 'task' learns from labels, .* of stage 'train' show none in 6 examples"):
        pipeline.prepare(load.stages(keys), tmp_path / "run")


def test_a_stage_that_trains_has_a_length():
    validate.check_length("a", 1)
    with pytest.raises(UserError, match="stage 'a' has no length; set steps, epochs or examples"):
        validate.check_length("a", 0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(networks=("studnet",)), "network in evaluate must be an existing name, got 'studnet'"),
        (dict(reference="techer"), "network in evaluate.reference must be an existing name, got 'techer'"),
        (dict(split="tset"), "^evaluate.split must be a split of the data, got 'tset'. Did you mean 'test'"),
    ],
)
def test_an_evaluation_names_existing_networks_and_splits(stages, changed, message):
    with pytest.raises(UserError, match=message):
        validate.check(runs.with_evaluate(stages["distil"], **changed))


def test_texts_without_a_token_to_learn_and_bounds_without_writing(tmp_path):
    """A loss that is 0 in every batch; and settings of texts that are not written."""
    tokens = np.tile(np.arange(6), (8, 1))
    np.savez(tmp_path / "texts.npz", train_tokens=tokens, train_answer_mask=np.zeros_like(tokens))
    decoder = {"model": "decoder", "layers": 1, "width": 8, "heads": 2, "length": 6}
    config = {
        "batch": 8,
        "steps": 1,
        "data": {"name": "npz", "path": str(tmp_path / "texts.npz")},
        "networks": {"student": decoder},
        "terms": {"task": {"method": "cross_entropy"}},
        "evaluate": {"split": "train", "metrics": ()},
        "stages": {"train": {}},
    }
    with pytest.raises(UserError, match="data must have a token to learn, got an answer_mask of 0 in all 8 texts"):
        pipeline.prepare(load.stages(config), tmp_path / "run")
    with pytest.raises(UserError, match=r"on_policy.length must be \(least, largest\), got \(-5.0, -1.0\)"):
        pipeline.prepare(load.stages(config | {"on_policy": {"length": (-5.0, -1.0)}}), tmp_path / "run")
