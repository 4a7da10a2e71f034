"""Small networks, methods and batches that the tests share."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill.core import Method, Output

CLASSES, SIDE = 3, 4


class Net(nn.Module):
    """A convolution, a dense layer, and on request batch statistics and dropout."""

    classes: int = CLASSES
    width: int = 5
    norm: bool = False
    dropout: float = 0.0
    dtype: type = jnp.float32

    @nn.compact
    def __call__(self, x, train=False):
        taps = {}
        x = nn.Conv(self.width, (3, 3), dtype=self.dtype)(x)
        if self.norm:
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)
        x = taps["stage1"] = nn.relu(x)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        x = taps["pooled"] = jnp.mean(x, (1, 2))
        return Output(nn.Dense(self.classes, dtype=self.dtype)(x), taps)


class Hint(Method):
    """A method with everything a method may have: an adapter, a memory and an rng."""

    same_classes = False
    noise: float = 0.0

    @nn.compact
    def __call__(self, student, teacher, batch):
        target = teacher.tap("pooled")
        seen = self.variable("memory", "seen", lambda: jnp.zeros((), jnp.float32))
        if self.is_mutable_collection("memory") and not self.is_initializing():
            seen.value = seen.value + jnp.float32(target.shape[0])
        hint = nn.Dense(target.shape[-1], name="adapter")(student.tap("pooled"))
        noise = self.noise * jax.random.normal(self.make_rng("method"), hint.shape)
        return jnp.mean((hint + noise - target) ** 2, -1)


def batch(rows=8, seed=0, classes=CLASSES, **more):
    """An augmented batch of random images and labels."""
    image, label = jax.random.split(jax.random.key(seed))
    return {
        "image": jax.random.normal(image, (rows, SIDE, SIDE, 1)),
        "label": jax.random.randint(label, (rows,), 0, classes),
        "index": jnp.arange(rows),
        "view": jnp.zeros(rows, jnp.int32),
        "mask": jnp.ones(rows, jnp.float32),
    } | more


def shapes(batch):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), batch)


def start(networks, terms, tx, data, seed=0, starts=None):
    """Initialises state and frozen variables; frozen networks start at random where `starts` has none."""
    from jaxdistill.train.init import init_state

    init = jax.jit(lambda key, weights: init_state(networks, terms, tx, shapes(data), key=key, weights=weights))
    return init(jax.random.key(seed), starts or {})


def same(left, right):
    """Whether two trees hold the same bits."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(bool(jnp.array_equal(_plain(a), _plain(b), equal_nan=True)) for a, b in pairs)


def _plain(x):
    return jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
