import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill import core
from jaxdistill.models.mlp import MLP

X = jnp.arange(24.0).reshape(2, 2, 2, 3) / 24 - 0.3


def test_taps_and_parameters():
    result, variables = jax.eval_shape(MLP(10, widths=(7, 5)).init_with_output, jax.random.key(0), X)
    shapes = {name: tap.shape for name, tap in result.taps.items()}
    assert shapes == {"hidden1": (2, 7), "hidden2": (2, 5), "pooled": (2, 5)}
    assert core.count(variables["params"]) == (12 + 1) * 7 + (7 + 1) * 5 + (5 + 1) * 10
    assert set(variables) == {"params"}


def test_one_layer_by_hand():
    result, variables = MLP(3, widths=(4,)).init_with_output(jax.random.key(0), X)
    params = jax.tree.map(np.asarray, variables["params"])
    hidden = np.maximum(np.asarray(X).reshape(2, 12) @ params["dense1"]["kernel"], 0)
    np.testing.assert_allclose(result.tap("hidden1"), hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.logits, hidden @ params["head"]["kernel"], rtol=1e-5, atol=1e-6)


def test_no_hidden_layers_is_a_linear_classifier():
    result, variables = MLP(3, widths=()).init_with_output(jax.random.key(0), X)
    assert core.count(variables) == 12 * 3 + 3
    np.testing.assert_array_equal(result.tap("pooled"), X.reshape(2, 12))


def test_dropout_acts_in_training_only_and_after_the_taps():
    model = MLP(3, widths=(64,), dropout=0.5)
    variables = model.init(jax.random.key(0), X)
    calm = model.apply(variables, X)
    result = [model.apply(variables, X, train=True, rngs={"dropout": jax.random.key(k)}) for k in (1, 2)]
    assert np.all(result[0].logits != result[1].logits)
    assert np.all(result[0].logits != calm.logits)
    np.testing.assert_array_equal(result[0].tap("pooled"), calm.tap("pooled"))
    np.testing.assert_array_equal(result[0].tap("hidden1"), calm.tap("hidden1"))
