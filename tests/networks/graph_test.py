"""The graph of networks: order, bindings, and one run through them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxdistill.core import Output
from jaxdistill.errors import UserError
from jaxdistill.models.cifar_resnet import CifarResNet
from jaxdistill.models.vit import ViT
from jaxdistill.networks import Ema, Ensemble, Function, Shared, Trained, dependencies, in_order, run, tpu_options
from jaxdistill.networks.graph import Precomputed, brought_variables, for_inference, variables_of
from jaxdistill.train.init import init_shapes
from toys import Net

BATCH = {"image": jnp.ones((2, 4, 4, 1))}


def constant(*logits):
    return Function(lambda image: jnp.tile(jnp.array(logits, jnp.float32), (len(image), 1)))


def test_each_network_follows_those_it_needs_and_is_bound_to_them():
    networks = in_order({"slow": Ema(of="student"), "both": Ensemble(("student", "slow")), "student": Trained(Net())})
    assert [*networks] == ["student", "slow", "both"]
    shared = in_order({"again": Shared(of="student"), "student": Trained(Net())})["again"]
    assert shared.network == Trained(Net())


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({"both": Ensemble(("a", "techer")), "a": constant(1), "teacher": constant(1)}, "Did you mean 'teacher'"),
        ({"a": Ensemble(("b",)), "b": Ensemble(("a",))}, "networks need each other in a circle: a -> b -> a"),
        ({"again": Shared(of="a"), "a": constant(1.0)}, "networks.again.of must"),
    ],
)
def test_networks_that_cannot_be_ordered_or_bound(networks, message):
    with pytest.raises(UserError, match=message):
        in_order(networks)


def test_dependencies_are_transitive_and_in_order():
    one, both = constant(1.0), Ensemble(("a", "b"))
    networks = in_order({"a": one, "b": one, "ab": both, "top": Ensemble(("ab",)), "c": one})
    assert [*dependencies(networks, ["top"])] == ["a", "b", "ab", "top"]
    assert [*dependencies(networks, ["c", "a"])] == ["a", "c"]


def test_options_for_a_tpu_are_those_that_all_models_declare():
    small, large = Trained(CifarResNet(classes=2, depth=8)), Trained(CifarResNet(classes=2, depth=20))
    assert tpu_options({"teacher": large, "student": small, "other": constant(1)}) == CifarResNet.tpu_options
    assert tpu_options({"teacher": large, "student": Trained(Net())}) == {}
    assert tpu_options({"other": constant(1)}) == {}
    assert tpu_options({"a": Trained(ViT(classes=2)), "b": large}) == {} != tpu_options({"a": Trained(ViT(classes=2))})


def test_a_run_passes_the_outputs_of_networks_to_those_that_need_them():
    networks = in_order({"a": constant(0.0, 2.0), "b": constant(2.0, 0.0), "mean": Ensemble(("a", "b"), "logits")})
    outputs, changed = run(networks, {}, BATCH, None)
    np.testing.assert_allclose(outputs["a"].logits, [[0.0, 2.0]] * 2)
    np.testing.assert_allclose(np.diff(outputs["mean"].logits), 0.0, atol=1e-6)
    assert changed == {"a": {}, "b": {}, "mean": {}}


class Plain(nn.Module):
    """A module that returns an array."""

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(3)(x.reshape(len(x), -1))


def test_a_network_whose_module_returns_an_array_is_named():
    networks = {"pupil": Trained(Plain())}
    variables = {"pupil": Plain().init(jax.random.key(0), BATCH["image"])}
    message = "^networks.pupil: module Plain must return an Output, got "
    with pytest.raises(UserError, match=message):
        run(networks, variables, BATCH, None)
    with pytest.raises(UserError, match=message):
        init_shapes(networks, {}, optax.identity(), BATCH)


def test_a_precomputed_output_is_that_of_any_batch():
    output = Output(jnp.ones((3, 2)))
    assert Precomputed(output)({}, BATCH, {}, None) == (output, {})


def test_a_network_gets_its_own_variables_and_those_it_borrows():
    variables = {"student": {"params": {"w": 1}}}
    networks = in_order({"student": Trained(Net()), "again": Shared(of="student")})
    assert variables_of("student", networks["student"], variables) == variables["student"]
    assert variables_of("again", networks["again"], variables) == {"borrowed": variables["student"]}
    assert brought_variables(networks["student"]) == {}
    assert for_inference(networks["student"], variables["student"], BATCH) is variables["student"]
