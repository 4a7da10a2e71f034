"""Localisation distillation (LD).

Zheng, Ye, Wang, Ren, Zuo, Hou, Cheng, "Localization Distillation for Dense Object Detection", CVPR 2022,
https://arxiv.org/abs/2102.12252

    loss = sum_x w_x (1 / 4) sum_e T^2 KL(softmax(t_xe / T) || softmax(s_xe / T)) / sum_x w_x,    e of 4 edges

s and t are the logits of a distance from a location to an edge of its box: both networks are detectors whose distances
are distributions (`bins` of model `fcos`). Locations x are those that are assigned to a box, as in method `fcos`, and
w_x is the student's score of its best class, without gradient. With `region="score"` all locations count, by the
teacher's score, which needs no labels and includes what the paper calls the valuable localisation region. The paper
weights the loss by 0.25.

One value per image, whose weights add up to 1.

Elsewhere: the authors' code takes the mean over the bins, so that its loss is smaller by their number, and divides by
the weights of the batch of all devices. Their valuable region is found by overlaps of boxes and weighted apart.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.core import Batch, Method, Output, Scalar, dense, precise
from jaxdistill.errors import UserError, check_positive, unknown
from jaxdistill.losses import boxes, divergence

REGIONS = ("positive", "score")
LEAST = 1e-6
"""Least sum of the weights of an image, so that one without boxes is divided by a number."""


def ld(
    student: Float[Array, "*n edges bins"],
    teacher: Float[Array, "*n edges bins"],
    temperature: Scalar,
) -> Float[Array, "*n"]:
    """Returns the mean over edges, in nats times the square of the temperature."""
    return temperature**2 * jnp.mean(divergence.kl(teacher / temperature, student / temperature), -1)


def best_score(output: Output) -> Float[Array, "batch locations"]:
    """Returns the probability of each location's best class, without gradient."""
    return jax.nn.sigmoid(jax.lax.stop_gradient(jnp.max(precise(dense(output.logits)), -1)))


def take_edges(student: Output, teacher: Output, path: str) -> tuple[jax.Array, jax.Array]:
    """Returns the logits of both sides' distances, `[batch, locations, edges, bins]`.

    Raises:
        UserError: for other bins or locations, by the name `path` of a method.
    """
    sides = precise(student.tap("edges")), precise(teacher.tap("edges"))
    if sides[0].shape != sides[1].shape:
        raise UserError(
            f"{path} must compare distances in the same bins at the same locations, got"
            f" {list(sides[0].shape)} and {list(sides[1].shape)}. Give both networks the same bins and levels"
        )
    return sides


class LD(Method):
    """`temperature` divides both logits; `radius` and `reach` assign locations, as in method `fcos`."""

    temperature: Scalar = 10.0
    region: str = "positive"
    radius: Scalar = boxes.RADIUS
    reach: Scalar = boxes.REACH
    zero_at_teacher = True
    predictions = ("boxes",)

    @property
    def needs_labels(self) -> bool:
        """Whether the locations are those of the boxes."""
        return self.region == "positive"

    def check(self) -> None:
        for name in ("temperature", "radius", "reach"):
            check_positive(name, getattr(self, name))
        if self.region not in REGIONS:
            raise unknown("region", self.region, REGIONS)

    def __call__(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, " batch"]:
        sides = take_edges(student, teacher, "ld")
        weight = self._weights(student, teacher, batch)
        total = jnp.sum(weight * ld(*sides, self.temperature), -1)
        return total / jnp.maximum(jnp.sum(weight, -1), LEAST)

    def _weights(self, student: Output, teacher: Output, batch: Batch) -> Float[Array, "batch locations"]:
        if self.region == "score":
            return best_score(teacher)
        locations = jax.lax.stop_gradient(precise(student.tap("locations")))
        targets = locations, precise(batch["boxes"]), batch["label"] >= 0
        index, _ = boxes.assign_batch(*targets, radius=self.radius, reach=self.reach)
        return jnp.where(index >= 0, best_score(student), 0.0)
