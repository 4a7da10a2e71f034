"""What networks of every domain could say, small: the outputs and batches that the conformance suite feeds methods."""

import jax
import jax.numpy as jnp

from jaxdistill.core import Output

ROWS, CLASSES = 6, 5
LENGTH, VOCABULARY, HEADS = 7, 11, 2
DOMAINS = ("classification", "dense", "encoder", "language", "derivative")


def batch(domain):
    """A batch whose last examples are shorter, where it is of tokens."""
    label, tokens = jax.random.split(jax.random.key(7))
    data = {"index": jnp.arange(ROWS) + 3, "view": jnp.zeros(ROWS, int), "mask": jnp.ones(ROWS)}
    if domain in ("classification", "derivative"):
        return data | {"label": jax.random.randint(label, (ROWS,), 0, CLASSES)}
    if domain == "dense":
        return data | {"label": jax.random.randint(label, (ROWS, 4, 4), 0, CLASSES)}
    lengths = jnp.array([7, 7, 5, 7, 4, 6])
    there = (jnp.arange(LENGTH)[None] < lengths[:, None]).astype(jnp.float32)
    text = {"tokens": jax.random.randint(tokens, (ROWS, LENGTH), 0, VOCABULARY), "token_mask": there}
    if domain == "encoder":
        masked = jax.random.bernoulli(label, 0.4, (ROWS, LENGTH)) & (there > 0)
        text["label"] = jnp.where(masked.at[:, 1].set(True), text["tokens"], -1)
    return data | text


def output(domain, seed, scale=1.0, dtype=jnp.float32, wide=False):
    """A random output; a `wide` one is that of a larger network, with other widths and more layers."""
    shapes = _shapes(domain, wide)
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    drawn = {name: jax.random.normal(key, shape) for key, (name, shape) in zip(keys, shapes.items(), strict=True)}
    taps = {name: value.astype(dtype) for name, value in drawn.items() if name != "logits"}
    return Output((scale * drawn["logits"]).astype(dtype), {n: (scale * x).astype(dtype) for n, x in taps.items()})


def _shapes(domain, wide):
    if domain == "derivative":
        return {"logits": (ROWS, CLASSES), "derivative": (ROWS, 3, CLASSES), "pooled": (ROWS, 8)}
    if domain in ("classification", "dense"):
        return {"logits": (ROWS, 4, 4, CLASSES) if domain == "dense" else (ROWS, CLASSES)} | _maps(2 if wide else 1)
    return {"logits": (ROWS, LENGTH, VOCABULARY)} | _blocks(*(4, 16) if wide else (2, 8))


def _maps(times):
    maps = {"stage1": (8, 8, 4), "stage2": (4, 4, 6), "stage3": (2, 2, 8)}
    maps = {name: (ROWS, side, other, channels * times) for name, (side, other, channels) in maps.items()}
    before = {f"{name}/preact": shape for name, shape in maps.items()}
    borrowed = {"projected": (ROWS, 2, 2, 8), "factor": (ROWS, 2, 2, 4)}
    return maps | before | borrowed | {"stem": maps["stage1"], "pooled": (ROWS, 8 * times)}


def _blocks(blocks, width):
    found = {"embed": (ROWS, LENGTH, width), "final": (ROWS, LENGTH, width), "pooled": (ROWS, width)}
    for block in range(blocks):
        found[f"block{block}"] = (ROWS, LENGTH, width)
        found[f"block{block}/scores"] = (ROWS, HEADS, LENGTH, LENGTH)
        for part in ("query", "key", "value"):
            found[f"block{block}/{part}"] = (ROWS, LENGTH, HEADS, width // HEADS)
    return found
