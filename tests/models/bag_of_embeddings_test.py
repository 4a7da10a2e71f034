"""Bag of embeddings: parameters by hand, the mean of the tokens, padding on either side."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill import core
from jaxdistill.errors import UserError
from jaxdistill.models.bag_of_embeddings import BagOfEmbeddings
from toy_texts import LENGTH, TOKENS, VOCABULARY, apply, drawn, shapes

SMALL = BagOfEmbeddings(3, vocabulary=VOCABULARY, width=5, widths=(4, 6))
MASK = jnp.ones(TOKENS.shape, jnp.int32).at[0, 3:].set(0).at[2, 5:].set(0)


def test_parameters_by_hand():
    embed, hidden = 30_522 * 300, 300 * 300 + 300
    assert core.count(shapes(BagOfEmbeddings(4), TOKENS)) == embed + hidden + 300 * 4 + 4
    assert core.count(shapes(BagOfEmbeddings(4, widths=()), TOKENS)) == embed + 300 * 4 + 4


def test_taps():
    variables = drawn(SMALL, TOKENS)
    output = apply(SMALL, variables, TOKENS, token_mask=MASK)
    table, layer = variables["params"]["embed"]["embedding"], variables["params"]["dense1"]
    expected = np.stack([np.mean(table[TOKENS[row][MASK[row] > 0]], 0) for row in range(len(TOKENS))])
    np.testing.assert_allclose(output.tap("mean"), expected, rtol=1e-4, atol=1e-6)
    hidden = np.maximum(expected @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"]), 0)
    np.testing.assert_allclose(output.tap("hidden1"), hidden, rtol=1e-4, atol=1e-5)
    assert {name: tap.shape for name, tap in output.taps.items()} == {
        "embed": (4, LENGTH, 5),
        "mean": (4, 5),
        "hidden1": (4, 4),
        "hidden2": (4, 6),
        "pooled": (4, 6),
    }


def test_padding_on_either_side_and_order_change_nothing():
    variables = drawn(SMALL, TOKENS)
    logits = apply(SMALL, variables, TOKENS, token_mask=MASK).logits
    for sides in ((2, 0), (0, 2)):
        tokens, mask = (jnp.pad(x, ((0, 0), sides), constant_values=fill) for x, fill in ((TOKENS, 99), (MASK, 0)))
        np.testing.assert_allclose(
            apply(SMALL, variables, tokens, token_mask=mask).logits, logits, rtol=1e-5, atol=1e-6
        )
    turned = apply(SMALL, variables, TOKENS[:, ::-1], token_mask=MASK[:, ::-1])
    np.testing.assert_allclose(turned.logits, logits, rtol=1e-5, atol=1e-6)
    assert np.isfinite(apply(SMALL, variables, TOKENS, token_mask=0 * MASK).logits).all()


@pytest.mark.parametrize("fields", [{"width": 0}, {"widths": (3, 0)}, {"dropout": 1.0}, {"vocabulary": 0}])
def test_mistakes(fields):
    with pytest.raises(UserError, match=f"{next(iter(fields))} must be"):
        BagOfEmbeddings(2, **fields)
