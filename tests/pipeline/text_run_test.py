"""Runs on texts of several lengths: their compilations, results and exact resumption."""

import json
import logging
import pathlib
import signal
from collections import Counter

import jax
import numpy as np
import pytest

from runs import launched, lines, stop_at, weights
from tokenizer_files import PIECES, SPECIAL, write_byte_level, write_wordpiece

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "texts.py")


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """The flags of the data: 64 texts of 1 or 2 words, and a long one in either split."""
    folder = tmp_path_factory.mktemp("texts")
    words, pieces = write_wordpiece(folder / "words"), write_byte_level(folder / "pieces", [*SPECIAL, *PIECES])
    texts = [" ".join([("good film", "bad")[n % 2]] * (12 if n in (0, 63) else 1)) for n in range(64)]
    rows = [{"text": text, "label": number % 2} for number, text in enumerate(texts)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    named = {"path": folder / "texts.jsonl", "tokenizer": words, "teacher_tokenizer": pieces}
    return [f"--config.data.{key}={value}" for key, value in named.items()]


@pytest.fixture(scope="module")
def whole(flags, tmp_path_factory):
    """A run without interruption, and what it compiled."""
    folder, messages, logger = tmp_path_factory.mktemp("whole"), [], logging.getLogger("jax")
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    with jax.log_compiles():
        assert launched(folder, *flags, config=CONFIG) == 0
    logger.removeHandler(handler)
    return folder, Counter(message.split()[1] for message in messages if message.startswith("Compiling "))


def test_each_length_is_compiled_once(whole):
    _, compiled = whole
    # Eight calls of training and three evaluations have two lengths.
    assert (compiled["jit(many_steps)"], compiled["jit(one_step)"], compiled["jit(measure_all)"]) == (2, 0, 2)


def test_padding_to_a_bucket_changes_no_result(flags, whole, tmp_path):
    assert launched(tmp_path, *flags, "--config.data.buckets=()", config=CONFIG) == 0
    for padded, cropped in zip(lines(tmp_path), lines(whole[0]), strict=True):
        assert padded.keys() == cropped.keys()
        for name, number in cropped.items():
            assert number == (pytest.approx(padded[name], rel=1e-5) if isinstance(number, float) else padded[name])


def test_a_run_goes_on_where_it_stopped(flags, whole, tmp_path):
    assert launched(tmp_path, *flags, config=CONFIG, stop=stop_at(4)) == 128 + signal.SIGTERM
    assert launched(tmp_path, *flags, config=CONFIG) == 0
    expected = weights(whole[0], "train", 16)
    for name, array in weights(tmp_path, "train", 16).items():
        np.testing.assert_array_equal(array, expected[name], name)
