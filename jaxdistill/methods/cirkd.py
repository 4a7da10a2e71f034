"""Cross-image relational distillation: pixels are as near to pixels and regions of other images as the teacher's are.

Yang, Zhou, An, Jiang, Xu, Zhang, "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022,
https://arxiv.org/abs/2204.06986

    loss = batch L_batch + pixel L_pixel + region L_region,
    L = mean_a KL(softmax_b(t_a . k_b / T) || softmax_b(s_a . k'_b / T))

over pixels a, all features of length 1. L_batch: b are the pixels of one image of the batch, the mean is over all pairs
of images too, and each side compares its own features. L_pixel and L_region: b are teacher's features of earlier images
(the same for both sides), pixels and means of the pixels of one class in an image, as many of each class drawn from
queues, first in, first out; the student's go through a learned projection, and pixels without a label do not count in
the mean. An image's value is its share. The paper adds these to labels and to pixels' KD.

An image is enqueued after it was compared: nothing meets itself, and the first step has L_batch alone. It adds one
region and at most `pixels` random pixels of each of its classes. The queues are 4 classes (pixel_memory +
region_memory) width bytes; the defaults are the authors'. Labels are brought to the size of the map by the nearest, the
larger map is averaged to the size of the smaller.

Elsewhere: the authors' code enqueues first, begins with random features in the queues, and takes the pixels to enqueue
from the first places of the image, of whatever class.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdistill import core
from jaxdistill.core import Method
from jaxdistill.errors import UserError, check_least
from jaxdistill.losses import distance, divergence, queue, regions, spatial
from jaxdistill.modules import adapters, layer_mapping


def batch_relation(student: jax.Array, teacher: jax.Array, mask: jax.Array, temperature: float) -> jax.Array:
    """Returns L_batch, an image's share `[batch]`, for two `[batch, pixels, ...]` of vectors of length 1."""
    counts = mask > 0

    @jax.checkpoint
    def to_one(other):
        pairs = (
            jnp.einsum("bac,dc->bad", x, y, precision="highest")
            for x, y in zip((teacher, student), other[:2], strict=True)
        )
        found = jnp.mean(divergence.kl(*(x / temperature for x in pairs)), -1)
        return jnp.where(counts & other[2], found, 0.0)

    return jnp.sum(jax.lax.map(to_one, (teacher, student, counts)), 0) / jnp.maximum(jnp.sum(counts), 1)


def memory_relation(
    student: jax.Array, teacher: jax.Array, keys: jax.Array, there: jax.Array, temperature: float
) -> jax.Array:
    """Returns each pixel's summand of L_pixel or L_region, `[batch, pixels]`; 0 where there are no keys.

    Args:
        student: `[batch, pixels, width]`, as are `teacher`'s, of length 1.
        keys: `[keys, width]`, of length 1.
        there: `[keys]`, whether there is such a key.
    """

    @jax.checkpoint
    def of_one(pair):
        scores = (jnp.matmul(x, keys.T, precision="highest") / temperature for x in pair)
        return divergence.kl(*(jnp.where(there[None], x, -1e9) for x in scores))

    return jax.lax.map(of_one, (teacher, student))


class CIRKD(Method):
    """`batch`, `pixel`, `region` weigh the parts; `*_memory` are slots of a class, `*_keys` what is compared with."""

    layers: str = "stage3"
    temperature: float = 0.1
    batch: float = 1.0
    pixel: float = 0.1
    region: float = 0.1
    pixel_memory: int = 20000
    region_memory: int = 2000
    pixel_keys: int = 4096
    region_keys: int = 1024
    pixels: int = 16
    same_classes = False
    needs_labels = True
    needs_whole_batch = True
    domain = "dense"

    def check(self):
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"temperature={self.temperature} makes no sense; it is greater than 0 and finite")
        for name in ("batch", "pixel", "region"):
            check_least(name, getattr(self, name), 0)
        for name in ("pixel_memory", "region_memory", "pixel_keys", "region_keys", "pixels"):
            check_least(name, getattr(self, name), 1)

    @nn.compact
    def __call__(self, student, teacher, batch):
        def loss(own, other, name):
            own, other = spatial.to_smaller(adapters.to_grid(own), adapters.to_grid(other))
            label = spatial.resize(batch["label"], own.shape[1:3], "nearest")
            label = jnp.where(batch["mask"][:, None, None] > 0, label, -1)
            inside = regions.members(label, student.logits.shape[-1]).astype(other.dtype)
            unit, target = (distance.normalize(x) for x in (own, other))
            value = self.batch * batch_relation(_flat(unit), _flat(target), batch["mask"], self.temperature)
            projected = _flat(distance.normalize(self._project(own, other.shape[-1], batch["mask"], name)))
            means, count = regions.class_means(target, inside)
            region = (distance.normalize(means).swapaxes(0, 1), count.T > 0)
            parts = {"pixel": self._pixels(_flat(target), _flat(inside), batch), "region": region}
            labelled = (label >= 0).reshape(len(label), -1)
            share = jnp.sum(batch["mask"] > 0) / jnp.maximum(jnp.sum(labelled), 1)
            for part, new in parts.items():
                keys, there = self._recall(part, new, name)
                found = memory_relation(projected, _flat(target), keys, there, self.temperature)
                value += getattr(self, part) * share * jnp.sum(jnp.where(labelled, found, 0.0), 1)
            return value

        return layer_mapping.over(self, student, teacher, loss)

    def _project(self, x, channels, mask, name):
        x = adapters.conv(channels, 1, name=f"{name}_conv0", bias=False)(x)
        x = nn.relu(adapters.norm(x, mask, name=f"{name}_norm"))
        return adapters.conv(channels, 1, name=f"{name}_conv1", bias=False)(x)

    def _pixels(self, x, inside, batch):
        """Some pixels of every class of every image, `[classes, n, width]`, and whether there are such."""
        keys = core.example_keys(self.make_rng("method"), batch)
        chance = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:2]))(keys)
        chance = jnp.where(inside > 0, chance[..., None], -1.0).swapaxes(1, 2)
        chance, at = jax.lax.top_k(chance, min(self.pixels, x.shape[1]))
        items = jax.vmap(lambda rows, index: rows[index])(x, at).swapaxes(0, 1)
        there = (chance >= 0).swapaxes(0, 1)
        return items.reshape(len(items), -1, x.shape[-1]), there.reshape(len(items), -1)

    def _recall(self, part, new, name):
        """Keys from what is remembered of earlier batches; then remembers the new items."""
        slots, (items, _) = getattr(self, f"{part}_memory"), new
        shape = (len(items), slots, items.shape[-1])
        kept = self.variable("memory", f"{name}_{part}_queue", lambda: jnp.zeros(shape, items.dtype))
        pushed = self.variable("memory", f"{name}_{part}_pushed", lambda: jnp.zeros(len(items), jnp.int32))
        count = min(slots, getattr(self, f"{part}_keys") // len(items) + 1)
        found = queue.draw(self.make_rng("method"), kept.value, pushed.value, count)
        if not self.is_initializing() and self.is_mutable_collection("memory"):
            kept.value, pushed.value = queue.push(kept.value, pushed.value, *new)
        return found


def _flat(x):
    return x.reshape(x.shape[0], -1, x.shape[-1])
