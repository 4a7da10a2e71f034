"""Multi-layer perceptron, for small experiments."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Output
from jaxdistill.errors import UserError, check_fraction


class MLP(nn.Module):
    """Fully connected layers with ReLU between them.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531, section
    3, distils one with widths (1200, 1200) and dropout into one with widths (800, 800). There is no published
    code; weights start as in He et al., https://arxiv.org/abs/1502.01852 (normal, fan_in), biases at 0.

    Taps, for x `[batch, ...]` of any shape:
        hidden1 .. hiddenN: `[batch, widths[i]]`, after ReLU, before dropout.
        pooled: the last of these, in float32; the flattened x without hidden layers.

    Attributes:
        classes: number of logits.
        widths: widths of the hidden layers; () is a linear classifier.
        dropout: rate of dropout after every hidden layer.
        dtype: of the computation; params and the last layer are float32.
    """

    classes: int
    widths: tuple[int, ...] = (512, 512)
    dropout: float = 0.0
    dtype: Any = jnp.float32

    inputs = ("image",)
    main_inputs = ("image", "features")

    def __post_init__(self) -> None:
        check_fraction("dropout", self.dropout)
        if not all(isinstance(width, int) and width > 0 for width in self.widths):
            raise UserError(f"widths must be whole numbers of 1 or more, or (), got {self.widths}")
        super().__post_init__()

    @nn.compact
    def __call__(self, x: Float[Array, " batch *shape"], train: bool = False) -> Output:
        taps = {}
        x = pooled = x.reshape(x.shape[0], -1)
        for number, width in enumerate(self.widths, start=1):
            x = nn.Dense(width, kernel_init=nn.initializers.he_normal(), dtype=self.dtype, name=f"dense{number}")(x)
            x = pooled = taps[f"hidden{number}"] = nn.relu(x)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        taps["pooled"] = pooled.astype(jnp.float32)
        return Output(nn.Dense(self.classes, dtype=jnp.float32, name="head")(x), taps)
