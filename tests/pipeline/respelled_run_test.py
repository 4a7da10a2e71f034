"""A teacher with other tokens from a config: bytes learn from merges; equal tokenizers have the plain loss."""

import json
import pathlib

import numpy as np
import pytest

import runs
from tokenizer_files import PIECES, write_byte_level

CONFIG = str(pathlib.Path(__file__).parents[1] / "configs" / "respelled.py")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("respelled")
    tokenizer = write_byte_level(folder / "tokenizer", PIECES)
    words = ("good", "film", "goad", "lib")
    rows = [{"q": words[n % 4], "a": f" {words[n // 4 % 4]} {words[n // 16 % 4]}"} for n in range(64)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    flag = f"--config.data.path={folder / 'rows.jsonl'}"
    assert runs.launched(folder / "run", flag, config=f"{CONFIG}:{tokenizer}") == 0
    return folder / "run"


def params(run, stage, step=4):
    return {name: x for name, x in runs.weights(run, stage, step).items() if name.startswith("params.student")}


def test_equal_tokenizers_have_the_loss_and_the_student_of_the_plain_kl(run):
    losses = {}
    for stage in ("equal", "plain"):
        losses[stage] = [line["loss"] for line in runs.lines(run) if line["stage"] == stage and "loss" in line]
    assert losses["equal"][0] == losses["plain"][0] > 0
    for name, x in params(run, "plain").items():
        np.testing.assert_allclose(params(run, "equal")[name], x, rtol=1e-4, atol=1e-6, err_msg=name)


def test_bytes_learn_from_merges(run):
    losses = [line["loss"] for line in runs.lines(run) if line["stage"] == "bytes" and "loss" in line]
    assert np.isfinite(losses).all()
    assert 0 < losses[-1] < losses[0]
