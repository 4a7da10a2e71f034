"""The diagonal of the Fisher information of a classifier's params: the influence of each on its predictions."""

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdistill.core import Batch
from jaxdistill.errors import UserError


def diagonal_fisher(
    apply: Callable[[Any, Batch], jax.Array],
    params: Any,
    batches: Iterable[Batch],
    rows: int = 8,
    samples: int = 0,
    key: jax.Array | None = None,
) -> Any:
    """Averages E_y [(d log p(y|x) / d params)^2] over examples, with y of the model's own distribution p(.|x).

    Matena & Raffel, "Merging Models with Fisher-Weighted Averaging", NeurIPS 2022, https://arxiv.org/abs/2111.09832,
    equation 3. The expectation over classes is exact (a backward pass for each class), or by `samples` draws for each
    example if classes are many. Gradients are each example's own: the square of a batch's mean gradient is
    another quantity.

    Args:
        apply: `(params, batch of one) -> logits [1, classes]`, in inference mode.
        params: of the network.
        batches: each with the same shapes `[batch, ...]`; `mask` is 1 for the examples that count, and draws also need
            `index`.
        rows: examples whose gradients are in memory at once, a divisor of the batch; on a mesh a multiple of its
            devices.
        samples: draws of the class for each example; 0 for the exact expectation.
        key: of the draws.

    Returns:
        A tree with the shapes of `params`, float32, of numbers of at least 0 (nats^2 per unit^2).

    Raises:
        UserError: if `rows` does not divide a batch, or draws have no key.
    """
    if samples and key is None:
        raise UserError(f"key must be set for samples={samples}, got None")
    squares = functools.partial(_sum_of_squares, apply, samples=samples, key=key)

    @jax.jit
    def add(total: Any, count: jax.Array, params: Any, batch: Batch) -> tuple[Any, jax.Array]:
        # Rows stay on their devices: a part takes one example out of each block, not a block of them.
        parts = {name: jnp.moveaxis(x.reshape(rows, -1, *x.shape[1:]), 1, 0) for name, x in batch.items()}

        def add_part(total: Any, part: Batch) -> tuple[Any, None]:
            information = jax.vmap(lambda example: squares(params, example))(part)
            counts = part["mask"] > 0

            def add_leaf(total: jax.Array, x: jax.Array) -> jax.Array:
                return total + jnp.sum(jnp.where(counts.reshape(-1, *[1] * (x.ndim - 1)), x, 0.0), 0)

            return jax.tree.map(add_leaf, total, information), None

        total, _ = jax.lax.scan(add_part, total, parts)
        return total, count + jnp.sum(batch["mask"] > 0).astype(jnp.float32)

    total, count = jax.jit(_zeros)(params), 0.0
    for batch in batches:
        size = len(batch["mask"])
        if size % rows:
            raise UserError(f"rows must divide the batch of {size} examples, got {rows}")
        total, count = add(total, count, params, batch)
    return jax.tree.map(lambda x: x / jnp.maximum(count, 1.0), total)


def _zeros(params: Any) -> Any:
    return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)


def _sum_of_squares(
    apply: Callable[[Any, Batch], jax.Array], params: Any, example: Batch, *, samples: int, key: jax.Array | None
) -> Any:
    """Returns the expected square of an example's gradient, a tree with the shapes of `params`."""

    def log_probabilities(params: Any) -> jax.Array:
        return jax.nn.log_softmax(apply(params, {name: x[None] for name, x in example.items()})[0].astype(jnp.float32))

    log_probs, pull = jax.vjp(log_probabilities, params)
    classes, weights = jnp.arange(log_probs.shape[-1]), jnp.exp(log_probs)
    if samples and key is not None:
        classes = jax.random.categorical(jax.random.fold_in(key, example["index"]), log_probs, shape=(samples,))
        weights = jnp.full(samples, 1 / samples)

    def add(total: Any, term: tuple[jax.Array, jax.Array]) -> tuple[Any, None]:
        label, weight = term
        gradient = pull(jax.nn.one_hot(label, log_probs.shape[-1]))[0]
        return jax.tree.map(lambda t, g: t + weight * g.astype(jnp.float32) ** 2, total, gradient), None

    return jax.lax.scan(add, _zeros(params), (classes, weights))[0]
