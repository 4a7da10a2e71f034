"""Texts that networks write for the report: prompts, answers, and what they are compared by."""

import pathlib

import jax
import numpy as np
import pytest

import runs
from jaxdistill.config import load
from jaxdistill.pipeline import run
from jaxdistill.stages import sample_texts

WRITTEN = str(pathlib.Path(runs.TINY).with_name("written.py"))


@pytest.fixture(scope="module")
def stage():
    return run.prepare(load.load(WRITTEN), None)["evaluate"]


@pytest.fixture(scope="module")
def texts(stage):
    variables = jax.jit(stage.init)()[1]
    return sample_texts.compute_texts(stage, variables), variables


@pytest.mark.slow
def test_prompts_and_answers_are_those_of_the_data_and_networks_write_as_much(stage, texts):
    tokens = stage.data.dataset.split("test").take(np.array([text["index"] for text in texts[0]]))["tokens"]
    assert len(texts[0]) == 6
    for text, row in zip(texts[0], tokens, strict=True):
        assert text["prompt"] + text["answer"] == bytes(row[row > 0].astype(np.uint8)).decode()
        left, right = text["prompt"].removesuffix("=").split("+")
        assert text["answer"] == f"{int(left) + int(right)}\n"
        assert {*text["networks"]} == {"teacher", "student"}
        assert not any(network["exact"] for network in text["networks"].values())  # of random networks


def test_the_answer_is_what_follows_the_prompt_up_to_the_rest_of_a_chat():
    tokens, mask = np.arange(1, 9), np.array([0, 1, 1, 1, 1, 1, 1, 0]) > 0
    prompt, answer = sample_texts._cut(tokens, mask, np.array([0, 0, 0, 1, 1, 0, 1, 1]) > 0)
    assert (prompt.tolist(), answer.tolist()) == ([2, 3], [4, 5])


@pytest.mark.slow
def test_none_are_written_where_none_are_wanted(stage, texts):
    assert sample_texts.compute_texts(runs.with_evaluate(stage, texts=0), texts[1]) == []
