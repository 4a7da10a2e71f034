"""Cross-image relational knowledge distillation (CIRKD).

Yang, Zhou, An, Jiang, Xu, Zhang, "Cross-Image Relational Knowledge Distillation for Semantic Segmentation", CVPR 2022,
https://arxiv.org/abs/2204.06986

    loss = batch L_batch + pixel L_pixel + region L_region,
    L = mean_a KL(softmax_b(t_a . k_b / T) || softmax_b(s_a . k'_b / T))

over pixels a, all features of length 1: a pixel has the teacher's similarities to pixels and regions of other images.
L_batch: b are the pixels of one image of the batch, the mean is over all pairs of images too, and each side compares
its own features. L_pixel and L_region: b are teacher's features of earlier images (the same for both sides), pixels and
means of the pixels of one class in an image, as many of each class drawn from queues, first in, first out; the
student's go through a learned projection, and pixels that are void or without a label do not count in the mean. An
image's value is its part of the sum. The paper adds these to labels and to pixels' KD.

An image is enqueued after its comparison: nothing is compared with itself, and the first step has L_batch alone. It
adds one region and at most `pixels` random pixels of each of its classes. The queues are 4 classes (pixel_memory +
region_memory) width bytes; the defaults are the authors'. Labels are resized to the map by nearest neighbour, the
larger map is averaged to the size of the smaller.

Elsewhere: the authors' code enqueues first, begins with random features in the queues, and takes the pixels to enqueue
from the first places of the image, of whatever class.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxdistill import core
from jaxdistill.core import Batch, Method, Output, Scalar
from jaxdistill.errors import check_least, check_positive
from jaxdistill.losses import distance, divergence, queue, regions, spatial
from jaxdistill.modules import adapters, layer_mapping

Pixels = Float[Array, "batch pixels _"]
Queue = tuple[Float[Array, "classes items width"], Bool[Array, "classes items"]]
"""Items of each class, and whether each of them exists."""


def batch_relation(
    student: Pixels, teacher: Pixels, mask: Float[Array, " batch"], temperature: Scalar
) -> Float[Array, " batch"]:
    """Returns each image's part of L_batch, for vectors of length 1."""
    valid = mask > 0

    @jax.checkpoint
    def compare_with(image: tuple[Array, Array, Array]) -> Array:
        pairs = zip((teacher, student), image[:2], strict=True)
        scores = (jnp.einsum("bac,dc->bad", x, y, precision="highest") / temperature for x, y in pairs)
        values = jnp.mean(divergence.kl(*scores), -1)
        return jnp.where(valid & image[2], values, 0.0)

    return jnp.sum(jax.lax.map(compare_with, (teacher, student, valid)), 0) / jnp.maximum(jnp.sum(valid), 1)


def memory_relation(
    student: Pixels, teacher: Pixels, keys: Float[Array, "keys _"], filled: Bool[Array, " keys"], temperature: Scalar
) -> Float[Array, "batch pixels"]:
    """Returns each pixel's summand of L_pixel or L_region for vectors of length 1; only `filled` keys exist."""

    @jax.checkpoint
    def compare_image(pair: tuple[Array, Array]) -> Array:
        scores = (jnp.matmul(x, keys.T, precision="highest") / temperature for x in pair)
        return divergence.kl(*(jnp.where(filled[None], x, -1e9) for x in scores))

    return jax.lax.map(compare_image, (teacher, student))


class CIRKD(Method):
    """`batch`, `pixel` and `region` are the parts' weights; `*_memory` slots of a class, `*_keys` drawn keys."""

    layers: str = "stage3"
    temperature: Scalar = 0.1
    batch: Scalar = 1.0
    pixel: Scalar = 0.1
    region: Scalar = 0.1
    pixel_memory: int = 20000
    region_memory: int = 2000
    pixel_keys: int = 4096
    region_keys: int = 1024
    pixels: int = 16
    same_classes = False
    needs_labels = True
    needs_whole_batch = True

    def check(self) -> None:
        check_positive("temperature", self.temperature)
        for name in ("batch", "pixel", "region"):
            check_least(name, getattr(self, name), 0)
        for name in ("pixel_memory", "region_memory", "pixel_keys", "region_keys", "pixels"):
            check_least(name, getattr(self, name), 1)

    @nn.compact
    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        def loss(student_map: Array, teacher_map: Array, name: str) -> Array:
            student_map, teacher_map = spatial.to_smaller(adapters.to_grid(student_map), adapters.to_grid(teacher_map))
            label = regions.pixel_labels(batch, student_map.shape[1:3])
            label = jnp.where(batch["mask"][:, None, None] > 0, label, -1)
            inside = regions.one_hot(label, student.logits.shape[-1]).astype(teacher_map.dtype)
            unit, target = (distance.normalize(x) for x in (student_map, teacher_map))
            value = self.batch * batch_relation(_flat(unit), _flat(target), batch["mask"], self.temperature)
            projected = _flat(self._project(student_map, teacher_map.shape[-1], batch["mask"], name))
            means, count = regions.class_means(target, inside)
            region = (distance.normalize(means).swapaxes(0, 1), count.T > 0)
            parts = {"pixel": self._pixels(_flat(target), _flat(inside), batch), "region": region}
            labelled = (label >= 0).reshape(len(label), -1)
            scale = jnp.sum(batch["mask"] > 0) / jnp.maximum(jnp.sum(labelled), 1)
            for part, new in parts.items():
                keys, filled = self._recall(part, new, name)
                values = memory_relation(projected, _flat(target), keys, filled, temperature=self.temperature)
                value += getattr(self, part) * scale * jnp.sum(jnp.where(labelled, values, 0.0), 1)
            return value

        return layer_mapping.sum_over_pairs(self, student, teacher, loss)

    def _project(self, x: Array, channels: int, mask: Float[Array, " batch"], name: str) -> Array:
        x = adapters.conv(channels, 1, name=f"{name}_conv0", bias=False)(x)
        x = nn.relu(adapters.norm(x, mask, name=f"{name}_norm"))
        return distance.normalize(adapters.conv(channels, 1, name=f"{name}_conv1", bias=False)(x))

    def _pixels(self, x: Pixels, inside: Float[Array, "batch pixels classes"], batch: Batch) -> Queue:
        """Draws pixels of every class of every image."""
        keys = core.example_keys(self.make_rng("method"), batch)
        chance = jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:2]))(keys)
        chance = jnp.where(inside > 0, chance[..., None], -1.0).swapaxes(1, 2)
        chance, index = jax.lax.top_k(chance, min(self.pixels, x.shape[1]))
        items = jax.vmap(lambda rows, index: rows[index])(x, index).swapaxes(0, 1)
        exists = (chance >= 0).swapaxes(0, 1)
        return items.reshape(len(items), -1, x.shape[-1]), exists.reshape(len(items), -1)

    def _recall(self, part: str, new: Queue, name: str) -> tuple[Float[Array, "keys width"], Bool[Array, " keys"]]:
        """Draws keys of earlier batches from the queue of `part`, then enqueues the new items."""
        slots, (items, _) = getattr(self, f"{part}_memory"), new
        shape = (len(items), slots, items.shape[-1])
        stored = self.variable("memory", f"{name}_{part}_queue", lambda: jnp.zeros(shape, items.dtype))
        pushed = self.variable("memory", f"{name}_{part}_pushed", lambda: jnp.zeros(len(items), jnp.int32))
        count = min(slots, getattr(self, f"{part}_keys") // len(items) + 1)
        keys = queue.draw(self.make_rng("method"), stored.value, pushed.value, count)
        if not self.is_initializing() and self.is_mutable_collection("memory"):
            stored.value, pushed.value = queue.push(stored.value, pushed.value, *new)
        return keys


def _flat(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch places channels"]:
    return x.reshape(x.shape[0], -1, x.shape[-1])
