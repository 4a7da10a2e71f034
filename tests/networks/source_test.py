"""The interface of a source: defaults of its hooks, and the application of a module."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toys
from jaxdistill.config.parse import option
from jaxdistill.core import Output, Unembedding
from jaxdistill.errors import UserError
from jaxdistill.networks import Context, Delayed, Frozen, Function, Shared, Source, Trained
from jaxdistill.networks.options import NetworkRef, required
from jaxdistill.networks.source import Borrows, BringsVariables, Follows, ForInference, apply

CONTEXT = Context(3, None)


@dataclasses.dataclass(frozen=True)
class Scaled(Source):
    of: NetworkRef = required("the network")
    others: tuple[NetworkRef, ...] = option(("b",), "further networks")
    factor: float = option(2.0, "factor", least=0)

    def __call__(self, variables, batch, outputs, key):
        return Output(outputs[self.of].logits * self.factor), {}


def test_a_source_is_built_from_the_keys_of_its_fields():
    assert Scaled.build("x", {"of": "a", "others": ("b",), "factor": 3.0}, CONTEXT) == Scaled("a", ("b",), 3.0)


def test_it_needs_the_networks_that_its_fields_name():
    assert Scaled("a").needs == ("a", "b")
    assert Function(lambda x: x).needs == ()


def test_a_source_without_variables_overrides_the_call_alone():
    source, batch = Scaled("a"), toys.batch()
    assert source.init(jax.random.key(0), batch, {}, {}) == {}
    assert source.partition({}) == ({}, {}, {})
    assert source.bind({}) is source
    assert source.pairing == {}
    assert source({}, batch, {"a": Output(jnp.ones((2, 3)))}, None)[0].logits[0, 0] == 2.0
    with pytest.raises(NotImplementedError):
        Source()({}, batch, {}, None)


def test_protocols_are_those_of_sources_that_have_their_members():
    net = toys.Net()
    assert isinstance(Delayed("a"), Follows)
    assert isinstance(Shared("a"), Borrows)
    assert isinstance(Frozen(net), ForInference)
    assert isinstance(Function(lambda x: x), BringsVariables)
    assert not any(isinstance(Trained(net), kind) for kind in (Follows, Borrows, ForInference, BringsVariables))


def test_a_module_runs_in_inference_mode_without_a_key_and_updates_statistics_with_one():
    net, image = toys.Net(norm=True, dropout=0.5), toys.batch()["image"]
    variables = net.init(jax.random.key(0), image)
    output, changed = apply(net, variables, image, None)
    np.testing.assert_array_equal(output.logits, net.apply(variables, image, train=False).logits)
    assert changed == {}
    first, changed = apply(net, variables, image, jax.random.key(1))
    second, _ = apply(net, variables, image, jax.random.key(2))
    assert [*changed] == ["batch_stats"]
    assert not jnp.array_equal(first.logits, second.logits)


def test_outputs_are_in_float32_unless_they_are_not_computed_yet():
    net, image = toys.Net(dtype=jnp.bfloat16), toys.batch()["image"]
    output, _ = apply(net, net.init(jax.random.key(0), image), image, None)
    assert {x.dtype for x in (output.logits, *output.taps.values())} == {jnp.dtype("float32")}
    lazy = Output(Unembedding(jnp.ones((2, 3), jnp.bfloat16), jnp.ones((3, 4), jnp.bfloat16))).in_float32()
    assert lazy.logits.hidden.dtype == jnp.bfloat16


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3)(x)


def test_a_module_that_returns_an_array_is_refused():
    with pytest.raises(UserError, match=r"module Plain must return an Output, got .* Return Output\(logits, taps\)"):
        apply(
            Plain(), {"params": {"Dense_0": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}}}, jnp.ones((1, 2)), None
        )
