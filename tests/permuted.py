"""Networks whose units can be permuted."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Output
from jaxdistill.merging import permutations
from jaxdistill.models import cifar_resnet, mlp, residual, resnet, wide_resnet


class Bottlenecks(nn.Module):
    """Bottleneck blocks as in `resnet.ResNet(depth=50)`, small enough for a test."""

    classes: int = 5

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(
            residual.norm(train, dtype=jnp.float32, name="norm")(residual.conv(8, 3, dtype=jnp.float32, name="stem")(x))
        )
        x = nn.max_pool(x, window_shape=(3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for index, stride in enumerate((2, 1)):
            x = nn.relu(residual.Bottleneck(6, stride, name=f"block{index}")(x, train))
        return Output(residual.classifier(self.classes)(residual.pool(x)), {})


NETWORKS = {
    "mlp": (mlp.MLP(5, (24, 16, 12)), (4, 6, 6, 1)),
    "cifar_resnet": (cifar_resnet.CifarResNet(5, depth=14), (2, 8, 8, 3)),
    "wide_resnet": (wide_resnet.WideResNet(5, depth=10, width=2, dropout=0.3), (2, 8, 8, 3)),
    "resnet, basic": (resnet.ResNet(5, depth=18), (1, 32, 32, 3)),
    "resnet, bottlenecks": (Bottlenecks(), (2, 8, 8, 3)),
}


def scattered(variables, seed=9):
    """Moves every number a little, so that no two units are alike and no statistic is a constant."""
    leaves, treedef = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    noise = [jax.random.uniform(key, x.shape, minval=-0.2, maxval=0.2) for key, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, [x + 0.3 * n for x, n in zip(leaves, noise, strict=True)])


def trace(name):
    model, shape = NETWORKS[name]
    x = jax.random.normal(jax.random.key(0), shape)
    variables = scattered(jax.jit(lambda key: model.init(key, x))(jax.random.key(1)))
    apply = jax.jit(lambda variables, x: model.apply(variables, x).logits)
    return apply, variables, x, permutations.permutations(apply, variables, x)
