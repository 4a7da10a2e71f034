"""BiLSTM: parameters by hand, the recurrence in NumPy, padding on either side."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.bilstm import LSTM, BiLSTM
from toy_texts import LENGTH, TOKENS, VOCABULARY, apply, drawn, shapes

SMALL = BiLSTM(3, vocabulary=VOCABULARY, embed_width=5, layers=2, width=4, hidden=6)
MASK = jnp.ones(TOKENS.shape, jnp.int32).at[0, 3:].set(0).at[2, 5:].set(0)


def test_parameters_by_hand():
    layer = 2 * (300 * 4 * 150 + 150 * 4 * 150 + 4 * 150)
    head = 300 * 200 + 200 + 200 * 2 + 2
    assert core.count(shapes(BiLSTM(2), TOKENS)) == 30_522 * 300 + layer + head
    two = 2 * (300 * 600 + 150 * 600 + 600)
    assert core.count(shapes(BiLSTM(2, layers=2, hidden=0), TOKENS)) == 30_522 * 300 + layer + two + 300 * 2 + 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(params, x, positions):
    """Returns the states of one text at the positions of its tokens in the order of reading."""
    width = params["recurrent"].shape[0]
    state = cell = np.zeros(width)
    states = np.zeros((len(x), width))
    for position in positions:
        gates = x[position] @ params["input"]["kernel"] + params["input"]["bias"] + state @ params["recurrent"]
        enter, forget, new, leave = np.split(gates, 4)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
        state = states[position] = sigmoid(leave) * np.tanh(cell)
    return states, state


def test_taps_are_those_of_the_recurrence():
    variables = drawn(SMALL, TOKENS)
    output = apply(SMALL, variables, TOKENS, token_mask=MASK)
    params = jax.tree.map(np.asarray, variables["params"])
    for row in range(len(TOKENS)):
        present = np.flatnonzero(MASK[row])
        x = params["embed"]["embedding"][np.asarray(TOKENS[row])] * np.asarray(MASK[row])[:, None]
        for block in ("block0", "block1"):
            forward, first = lstm(params[f"{block}_forward"], x, present)
            backward, last = lstm(params[f"{block}_backward"], x, present[::-1])
            x = np.concatenate([forward, backward], -1)
            np.testing.assert_allclose(output.tap(block)[row], x, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(output.tap("states")[row], np.concatenate([first, last]), rtol=1e-4, atol=1e-5)
    assert {name: tap.shape for name, tap in output.taps.items()} == {
        "embed": (4, LENGTH, 5),
        **dict.fromkeys(("block0", "block1", "final"), (4, LENGTH, 8)),
        "states": (4, 8),
        "pooled": (4, 6),
    }


def test_padding_on_either_side_changes_nothing():
    variables = drawn(SMALL, TOKENS)
    logits = apply(SMALL, variables, TOKENS, token_mask=MASK).logits
    for sides in ((2, 0), (0, 2)):
        tokens, mask = (jnp.pad(x, ((0, 0), sides), constant_values=fill) for x, fill in ((TOKENS, 99), (MASK, 0)))
        np.testing.assert_allclose(
            apply(SMALL, variables, tokens, token_mask=mask).logits, logits, rtol=1e-5, atol=1e-6
        )
    assert np.isfinite(apply(SMALL, variables, TOKENS, token_mask=0 * MASK).logits).all()


def test_the_forget_gate_starts_open():
    x, is_token = jnp.zeros((1, 1, 2)), jnp.ones((1, 1, 1), bool)
    params = LSTM(4).init(jax.random.key(0), x, is_token)["params"]
    np.testing.assert_array_equal(params["input"]["bias"], [0] * 4 + [1] * 4 + [0] * 8)


@pytest.mark.parametrize("fields", [{"layers": 0}, {"width": 0}, {"hidden": -1}, {"dropout": 1.0}, {"vocabulary": 0}])
def test_mistakes(fields):
    with pytest.raises(UserError, match=f"{next(iter(fields))} must be"):
        BiLSTM(2, **fields)
