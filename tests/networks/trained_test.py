"""A network is given what its module reads of a batch, and logits that are not computed stay as they are."""

import jax
import jax.numpy as jnp
import numpy as np

import toy_texts
from jaxdistill.core import Unembedding
from jaxdistill.models.decoder import Decoder
from jaxdistill.models.mlp import MLP
from jaxdistill.networks import Function, Trained

DECODER = Decoder(toy_texts.VOCABULARY, **toy_texts.SMALL, **toy_texts.LLAMA, dtype=jnp.bfloat16)
VARIABLES = toy_texts.drawn(DECODER, toy_texts.TOKENS)
MASK = jnp.ones(toy_texts.TOKENS.shape).at[0, :2].set(0)


def say(source, batch):
    return jax.jit(lambda batch: source(VARIABLES, batch, {}, None)[0])(batch)


def test_first_of_the_inputs_of_a_module_is_the_default_input():
    assert (Trained(DECODER).input, Trained(MLP(3)).input, Trained(MLP(3), "image2").input) == (
        "tokens",
        "image",
        "image2",
    )


def test_a_mask_goes_with_its_tokens():
    batch = {"tokens": toy_texts.TOKENS, "token_mask": MASK}
    masked, whole = say(Trained(DECODER), batch), say(Trained(DECODER), {"tokens": toy_texts.TOKENS})
    expected = toy_texts.apply(DECODER, VARIABLES, toy_texts.TOKENS, token_mask=MASK)
    np.testing.assert_array_equal(masked.logits.hidden, expected.logits.hidden)
    assert np.any(masked.logits.hidden[0, 2:] != whole.logits.hidden[0, 2:])
    np.testing.assert_array_equal(masked.logits.hidden[1:], whole.logits.hidden[1:])
    theirs = {f"teacher_{name}": x for name, x in batch.items()} | {
        "tokens": 0 * toy_texts.TOKENS,
        "token_mask": 0 * MASK,
    }
    other = say(Trained(DECODER, "teacher_tokens"), theirs)
    np.testing.assert_array_equal(other.logits.hidden, masked.logits.hidden)


def test_logits_that_are_not_computed_keep_their_dtype_and_taps_become_float32():
    said = say(Trained(DECODER), {"tokens": toy_texts.TOKENS})
    assert isinstance(said.logits, Unembedding)
    assert said.logits.hidden.dtype == said.logits.kernel.dtype == jnp.bfloat16
    assert {x.dtype for x in said.taps.values()} == {jnp.dtype("float32")}


def test_a_function_of_tokens_may_predict_each_next_token():
    says = Function(lambda tokens: jax.nn.one_hot(tokens, 5), input="tokens")
    said, _ = says({}, {"tokens": toy_texts.TOKENS}, {}, None)
    assert said.logits.shape == (*toy_texts.TOKENS.shape, 5)
