"""Spans at the positions of the logits that predict their tokens, by hand."""

import jax.numpy as jnp

from jaxdistill.modules import spans
from jaxdistill.modules.next_token import align_next_tokens


def test_positions_of_single_and_of_longer_spans():
    """Span 0 is one token on both sides, 1 two and one, 2 one and two; 3 and 4 have first tokens, not predicted."""
    batch = align_next_tokens(
        {
            "tokens": jnp.zeros((1, 7), jnp.int32),
            "span": jnp.array([[3, 0, 1, 1, 2, 3, 4]]),
            "teacher_tokens": jnp.zeros((1, 7), jnp.int32),
            "teacher_span": jnp.array([[4, 3, 0, 1, 2, 2, 4]]),
            "mask": jnp.ones(1),
        }
    )
    found = spans.align(batch)
    assert found.number.tolist() == [[0, 1, 1, 2, -1, -1, -1]]
    assert found.is_single.tolist() == [[True] + [False] * 6]
    assert found.is_last.tolist() == [[False, False, True, True, False, False, False]]
    assert found.partner[0, 0] == 1
    assert found.teacher_number.tolist() == [[-1, 0, 1, 2, 2, -1, -1]]
    sums = spans.total(jnp.arange(7.0)[None], found.number, 7)
    assert spans.spread(sums, found.number)[0, :4].tolist() == [0, 3, 3, 3]


def test_padding_has_no_span():
    fields = {"tokens": jnp.zeros((1, 2), jnp.int32), "span": jnp.array([[-1, 0]])}
    batch = align_next_tokens({**fields, **{f"teacher_{k}": x for k, x in fields.items()}, "mask": jnp.zeros(1)})
    assert spans.align(batch).number.tolist() == [[-1, -1]]
