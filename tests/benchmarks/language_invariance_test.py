"""Losses of tokens do not change by what must not change them."""

import dataclasses
import importlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from conftest import ROOT
from jaxdistill import core
from jaxdistill.config import registry
from jaxdistill.core import Output

sys.path.insert(0, str(ROOT / "benchmarks"))
invariance = importlib.import_module("language_invariance")


def check(rows):
    for row in rows:
        assert row["largest, loss"] <= invariance.LOSS, row
        assert row["largest, gradient"] <= invariance.GRADIENT, row


@pytest.mark.parametrize("name", ["forward_kl", "cross_entropy"])
def test_rows_of_several_texts_with_padding_in_chunks(name):
    """Loss and gradient are those of a text in each row, of logits that are a function of the token."""
    plain = invariance.align(invariance.make_texts().take(np.arange(invariance.TEXTS)))
    packed = invariance.pack(invariance.Form(plain, {}, {})).batch
    assert packed["document"].max() > 1
    student, teacher = (jax.random.normal(jax.random.key(n), (invariance.VOCABULARY,) * 2) for n in range(2))

    def loss(table, batch, chunk):
        method = registry.find("method", name)(chunk=chunk)
        outputs = (Output(logits[batch["tokens"]]) for logits in (table, teacher))
        return core.mean(method.apply({}, *outputs, batch), method.valid(batch))

    gradient = jax.jit(jax.value_and_grad(loss), static_argnums=2)
    expected, changed = gradient(student, plain, 0), gradient(student, invariance.pad(packed, 2, 1), 5)
    np.testing.assert_allclose(changed[0], expected[0], rtol=invariance.LOSS)
    norm = jnp.linalg.norm(expected[1])
    assert jnp.linalg.norm(changed[1] - expected[1]) <= invariance.GRADIENT * norm


@pytest.mark.slow
def test_a_change_is_seen():
    """Texts that attend to those before them in a row have another loss."""
    plain = invariance.make_plain()
    packed = invariance.pack(plain)
    batch = {name: x for name, x in packed.batch.items() if name != "document"}
    forms = {"": plain, "packed": dataclasses.replace(packed, batch=batch)}
    [row] = invariance.measure({"kd": registry.find("method", "kd")()}, forms)
    assert row["packed, loss"] > 1e-3


@pytest.mark.slow
def test_all_methods_in_all_forms():
    methods = {name: registry.find("method", name)() for name in invariance.list_methods()}
    check(invariance.measure(methods, invariance.make_forms()))
