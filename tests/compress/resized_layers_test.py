"""A module computes with arrays that are smaller than its fields, in training too."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import numpy_variables
from jaxdistill.compress.resized_layers import apply_resized


class Net(nn.Module):
    """Every kind of layer, of `wide` inner units."""

    wide: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Embed(5, self.wide, name="embed")(x)
        x = nn.Conv(self.wide, (3,), name="conv")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Conv(self.wide, (3,), feature_group_count=self.wide, name="depthwise")(x)
        x = nn.LayerNorm(name="layer_norm")(x)
        x = nn.DenseGeneral((self.wide, 2), name="heads")(x)
        return nn.DenseGeneral(3, axis=(-2, -1), name="head")(x)


def test_layers_have_the_sizes_of_their_arrays():
    tokens = jnp.array([[0, 3, 1, 4], [2, 2, 0, 1]])
    small, wide = Net(4), Net(6)
    variables = numpy_variables.draw(small, tokens)
    with nn.intercept_methods(apply_resized):
        found, changed = jax.jit(lambda v: wide.apply(v, tokens, train=True, mutable=["batch_stats"]))(variables)
    expected, stats = jax.jit(lambda v: small.apply(v, tokens, train=True, mutable=["batch_stats"]))(variables)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), changed, stats)
    assert np.abs(changed["batch_stats"]["norm"]["mean"] - variables["batch_stats"]["norm"]["mean"]).max() > 1e-3


def test_gradients_reach_the_smaller_arrays():
    x = jnp.ones((2, 3))
    params = {"params": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}}
    with nn.intercept_methods(apply_resized):
        grads = jax.grad(lambda v: nn.Dense(7).apply(v, x).sum())(params)
    np.testing.assert_array_equal(grads["params"]["kernel"], np.full((3, 2), 2))
