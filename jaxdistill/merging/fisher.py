"""The diagonal of the Fisher information of a classifier's params: how much its predictions depend on each."""

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
    example where classes are many. Gradients are each example's own: the square of a batch's mean gradient is
    another thing.

    Args:
        apply: `(params, batch of one) -> logits [1, classes]`, in inference mode.
        batches: each with the same shapes `[batch, ...]`; `mask` says which examples count, and where draws are asked
            for `index` tells them apart.
        rows: examples whose gradients are held at once, a divisor of the batch. On a mesh a multiple of its devices.
        samples: draws of the class for each example; 0 for the exact expectation.
        key: of the draws.

    Returns:
        A tree like `params`, float32, of numbers of 0 or more (nats^2 per unit^2).

    Raises:
        UserError: for a batch that `rows` does not divide, and draws without a key.
    """
    if samples and key is None:
        raise UserError(f"samples={samples} draws need a key")
    add = jax.jit(functools.partial(_add, apply, rows, samples, key))
    total, count = jax.jit(_zeros)(params), 0.0
    for batch in batches:
        size = len(batch["mask"])
        if size % rows:
            raise UserError(f"a batch of {size} cannot be divided into parts of rows={rows} examples")
        total, count = add(total, count, params, batch)
    return jax.tree.map(lambda x: x / jnp.maximum(count, 1.0), total)


def _zeros(params):
    return jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)


def _add(apply, rows, samples, key, total, count, params, batch):
    # Rows stay on their devices: a part takes one example out of each block, not a block of them.
    parts = {name: jnp.moveaxis(x.reshape(rows, -1, *x.shape[1:]), 1, 0) for name, x in batch.items()}

    def one_part(total, part):
        squares = jax.vmap(lambda example: _squares(apply, params, example, samples, key))(part)
        kept = part["mask"] > 0

        def add(sofar, x):
            keep = kept.reshape(-1, *[1] * (x.ndim - 1))
            return sofar + jnp.sum(jnp.where(keep, x, 0.0), 0)

        return jax.tree.map(add, total, squares), None

    total, _ = jax.lax.scan(one_part, total, parts)
    return total, count + jnp.sum(batch["mask"] > 0).astype(jnp.float32)


def _squares(apply, params, example, samples, key):
    def log_probabilities(params):
        return jax.nn.log_softmax(apply(params, {name: x[None] for name, x in example.items()})[0].astype(jnp.float32))

    said, pull = jax.vjp(log_probabilities, params)
    classes, weights = jnp.arange(said.shape[-1]), jnp.exp(said)
    if samples:
        classes = jax.random.categorical(jax.random.fold_in(key, example["index"]), said, shape=(samples,))
        weights = jnp.full(samples, 1 / samples)

    def add(total, drawn):
        chosen, weight = drawn
        gradient = pull(jax.nn.one_hot(chosen, said.shape[-1]))[0]
        return jax.tree.map(lambda t, g: t + weight * g.astype(jnp.float32) ** 2, total, gradient), None

    return jax.lax.scan(add, _zeros(params), (classes, weights))[0]
