"""LoRA: the function at the start, the product by hand, layers of a scanned stack, and bad ranks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.lora import LoRA
from jaxdistill.errors import UserError

VIEW = LoRA(rank=2, alpha=6.0)
PARAMS = {
    "dense/kernel": jax.random.normal(jax.random.key(0), (5, 8)),
    "dense/bias": jnp.ones(8),
    "blocks/attention/out/kernel": jax.random.normal(jax.random.key(1), (3, 2, 4, 8)),
    "attention/query/kernel": jax.random.normal(jax.random.key(2), (8, 2, 4)),
    "head/kernel": jnp.ones((8, 3)),
}


def with_random_ups(extra):
    keys = jax.random.split(jax.random.key(3), len(extra.learned))
    learned = {
        name: jax.random.normal(key, x.shape) for key, (name, x) in zip(keys, extra.learned.items(), strict=True)
    }
    return extra._replace(learned=learned)


def test_the_function_is_the_same_at_the_start():
    viewed = VIEW.view(PARAMS, VIEW.init(PARAMS))
    for name, x in PARAMS.items():
        np.testing.assert_array_equal(viewed[name], x)


def test_a_kernel_is_the_sum_of_its_own_and_the_scaled_product():
    extra = with_random_ups(VIEW.init(PARAMS))
    viewed = VIEW.view(PARAMS, extra)
    down, up = (extra.learned[f"dense/kernel_{part}"][0] for part in ("down", "up"))
    np.testing.assert_allclose(viewed["dense/kernel"], PARAMS["dense/kernel"] + 3.0 * down @ up, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(viewed["head/kernel"], PARAMS["head/kernel"])
    np.testing.assert_array_equal(viewed["dense/bias"], PARAMS["dense/bias"])


def test_inputs_and_outputs_are_those_of_the_layer():
    extra = with_random_ups(VIEW.init(PARAMS))
    shapes = {name: x.shape for name, x in extra.learned.items()}
    assert shapes["attention/query/kernel_down"] == (1, 8, 2)
    assert shapes["attention/query/kernel_up"] == (1, 2, 8)
    assert shapes["blocks/attention/out/kernel_down"] == (3, 8, 2)
    assert shapes["blocks/attention/out/kernel_up"] == (3, 2, 8)
    viewed = VIEW.view(PARAMS, extra)["blocks/attention/out/kernel"]
    down, up = (extra.learned[f"blocks/attention/out/kernel_{part}"][2] for part in ("down", "up"))
    expected = PARAMS["blocks/attention/out/kernel"][2] + 3.0 * (down @ up).reshape(2, 4, 8)
    np.testing.assert_allclose(viewed[2], expected, rtol=1e-5, atol=1e-6)


def test_first_factors_are_of_the_name_and_bounded_by_the_inputs():
    first = VIEW.init(PARAMS).learned
    again = VIEW.init({"dense/kernel": PARAMS["dense/kernel"]}).learned
    np.testing.assert_array_equal(first["dense/kernel_down"], again["dense/kernel_down"])
    down = first["attention/query/kernel_down"]
    assert 0.5 / np.sqrt(8) < np.abs(down).max() <= 1 / np.sqrt(8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(rank=6), "rank must be at most 5 for dense/kernel, its smaller dimension, got 6"),
        (dict(rank=0), "rank must be at least 1 and finite, got 0"),
        (dict(match="nothing"), "match must match a parameter that 'lora' takes"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        LoRA(**fields).check(PARAMS)
