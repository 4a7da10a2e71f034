"""A few numbers for each hidden state, from which its logits follow best: singular vectors of the logits.

Logits of states h are h K + b. Up to a constant for each prediction, which a softmax does not depend on, they are those
of K_c, the kernel without its mean over the classes. With R the symmetric root of K_c K_c' the length of R (h - mean)
is that of the logits' deviations, and the principal components of these vectors are singular vectors of the matrix of
all logits: by Eckart & Young, "The approximation of one matrix by another of lower rank", Psychometrika 1936,
https://doi.org/10.1007/BF02288367, no other `rank` numbers give a sample's logits with a smaller squared error.

    z = (h - mean) R Q,    logits = z Q' R^+ K_c + (b + mean K_c),    Q the first components

The rows of Q' R^+ K_c are orthonormal, so that rounding z changes the logits no more than z.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from jaxdistill.losses import divergence

RELATIVE = 1e-7
"""Eigenvalues of K_c K_c' below this fraction of the largest are zero: of directions that no logit depends on."""

COMPARED = 1 << 24
"""The most logits that a mean KL is measured on."""


@dataclasses.dataclass(frozen=True)
class StateBasis:
    """Components of the states of a sample, the first ones first.

    Attributes:
        hidden: the sample, `[n, width]`.
        live: kernel and bias of its logits, `[width, classes]` and `[classes]` or `None`.
        center: `[width]`.
        encoder: R Q, `[width, width]`.
        kernel: Q' R^+ K_c, `[width, classes]`.
        bias: `[classes]`.
    """

    hidden: np.ndarray
    live: tuple[np.ndarray, np.ndarray | None]
    center: np.ndarray
    encoder: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray

    @classmethod
    def fit(cls, hidden: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None) -> Self:
        """Fits the components.

        Args:
            hidden: `[n, width]`.
            kernel, bias: of the logits, `[width, classes]` and `[classes]` or `None`.
        """
        exact, states = kernel.astype(np.float64), hidden.astype(np.float64)
        exact -= exact.mean(1, keepdims=True)
        center = states.mean(0)
        values, vectors = np.linalg.eigh(exact @ exact.T)
        roots = np.sqrt(np.maximum(values, 0))
        inverse = np.where(values > RELATIVE * values[-1], 1 / np.where(roots > 0, roots, 1), 0)
        root = (vectors * roots) @ vectors.T
        scaled = (states - center) @ root
        components = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1]
        # The sign of a component is any: that of its largest number is positive.
        largest = np.take_along_axis(components, np.abs(components).argmax(0)[None], 0)
        components = components * np.where(largest < 0, -1, 1)
        offset = center @ exact + (0 if bias is None else bias.astype(np.float64))
        projected = components.T @ (vectors * inverse) @ vectors.T @ exact
        arrays = (x.astype(np.float32) for x in (center, root @ components, projected, offset))
        return cls(hidden, (kernel, bias), *arrays)

    def arrays(self, rank: int) -> dict[str, np.ndarray]:
        """Returns what all records share: `kernel` in its dtype, `bias`, `encoder` and `center` in float32."""
        kernel = self.kernel[:rank].astype(self.live[0].dtype)
        return {"kernel": kernel, "bias": self.bias, "encoder": self.encoder[:, :rank], "center": self.center}

    def mean_kl(self, rank: int) -> float:
        """Returns the mean KL from the sample's predictions to those of `rank` numbers for each state, nats."""
        shared, (kernel, bias) = self.arrays(rank), self.live
        rows = max(1, min(len(self.hidden), COMPARED // kernel.shape[1]))
        hidden = self.hidden[np.linspace(0, len(self.hidden) - 1, rows).astype(int)].astype(np.float32)
        live = hidden @ kernel.astype(np.float32) + (0 if bias is None else bias)
        stored = np.asarray(encode(hidden, shared)) @ shared["kernel"].astype(np.float32) + shared["bias"]
        return float(jnp.mean(divergence.kl(jnp.asarray(live), jnp.asarray(stored))))

    def smallest_rank(self, bound: float) -> int:
        """Returns the smallest rank with at most this mean KL; the width if none has."""
        low, high = 1, self.kernel.shape[0]
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.mean_kl(middle) <= bound else (middle + 1, high)
        return low


def encode(hidden: Any, shared: Mapping[str, Any]) -> jax.Array:
    """Returns the numbers of states `[..., width]`, float32 `[..., rank]`."""
    center = jnp.reshape(shared["center"], (1,) * (hidden.ndim - 1) + (-1,))
    return jnp.matmul(hidden.astype(jnp.float32) - center, shared["encoder"])
