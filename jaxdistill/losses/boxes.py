"""Boxes: overlaps, distances from locations, and the locations that FCOS assigns to each box.

A box is (y_min, x_min, y_max, x_max); a location is (y, x, height of a stride, width of a stride), in the units of the
boxes. Overlaps do not depend on the units of either axis, and distances are in strides, so that boxes in fractions of
an image give the results of boxes in pixels.

Tian, Shen, Chen, He, "FCOS: Fully Convolutional One-Stage Object Detection", ICCV 2019,
https://arxiv.org/abs/1904.01355, with the centre sampling of its journal version (https://arxiv.org/abs/2006.09214).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxdistill.core import Scalar

RADIUS = 1.5
"""Half the side of the square around a box's centre whose locations may be assigned to it, in strides."""

REACH = 8.0
"""Largest distance from a location to an edge, in strides; the paper's 64 pixels at stride 8, doubled by each level."""

Boxes = Float[Array, "*#n 4"]


def area(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Returns height times width, 0 for a box with swapped corners."""
    sides = jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return sides[..., 0] * sides[..., 1]


def intersection(left: Boxes, right: Boxes) -> Float[Array, "*n"]:
    """Returns the area that two boxes share."""
    corners = jnp.maximum(left[..., :2], right[..., :2]), jnp.minimum(left[..., 2:], right[..., 2:])
    return area(jnp.concatenate(corners, -1))


def iou(left: Boxes, right: Boxes) -> Float[Array, "*n"]:
    """Returns intersection over union; 0 for two boxes without area."""
    shared = intersection(left, right)
    return _divide(shared, area(left) + area(right) - shared)


def giou(left: Boxes, right: Boxes) -> Float[Array, "*n"]:
    """Returns the generalised IoU, in (-1, 1]: IoU less the fraction of the hull that neither box covers.

    Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, https://arxiv.org/abs/1902.09630. Without the
    1e-7 that torchvision adds to both denominators: they are positive unless both boxes have no area.
    """
    shared = intersection(left, right)
    union = area(left) + area(right) - shared
    corners = jnp.minimum(left[..., :2], right[..., :2]), jnp.maximum(left[..., 2:], right[..., 2:])
    hull = area(jnp.concatenate(corners, -1))
    return _divide(shared, union) - _divide(hull - union, hull)


def distances(locations: Float[Array, "*#n 4"], boxes: Boxes) -> Float[Array, "*n 4"]:
    """Returns the distances to the edges (left, top, right, bottom) in strides, some of them negative outside."""
    y, x, height, width = (locations[..., axis] for axis in range(4))
    top, left, bottom, right = (boxes[..., axis] for axis in range(4))
    height, width = _positive(height), _positive(width)
    return jnp.stack([(x - left) / width, (y - top) / height, (right - x) / width, (bottom - y) / height], -1)


def centerness(edges: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """Returns sqrt(min(l, r) / max(l, r) min(t, b) / max(t, b)) of distances; 0 outside of the box.

    Equation 3 of the paper.
    """
    pairs = edges[..., :2], edges[..., 2:]
    ratios = jnp.maximum(_divide(jnp.minimum(*pairs), jnp.maximum(*pairs)), 0)
    return jnp.sqrt(ratios[..., 0] * ratios[..., 1])


def assign(
    locations: Float[Array, "locations 4"],
    boxes: Float[Array, "boxes 4"],
    is_target: Bool[Array, " boxes"],
    radius: Scalar = RADIUS,
    reach: Scalar = REACH,
) -> Int[Array, " locations"]:
    """Returns the index of the box that each location predicts, -1 for the background.

    A location is assigned to the smallest box that it lies in, near whose centre it lies (`radius`), and whose farthest
    edge is within the level's range: from half of `reach` strides to `reach`, without a lower end at the finest level
    and without an upper one at the coarsest. This is torchvision's matching; the paper's ranges include their upper
    ends. Of boxes of one area the first counts.

    Args:
        locations: of one image, of all levels.
        boxes: of the same image.
        is_target: False for padding and for regions of crowds, which have no location.
        radius: of centre sampling, in strides.
        reach: in strides.
    """
    stride = locations[:, 2]
    edges = distances(locations[:, None], boxes[None])
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    offset = jnp.max(jnp.abs(locations[:, None, :2] - centre[None]) / _positive(locations[:, None, 2:]), -1)
    farthest = jnp.max(edges, -1)
    low = jnp.where(stride <= jnp.min(stride), 0.0, reach / 2)[:, None]
    high = jnp.where(stride >= jnp.max(stride), jnp.inf, reach)[:, None]
    fits = (offset < radius) & (jnp.min(edges, -1) > 0) & (farthest > low) & (farthest < high) & is_target[None]
    size = jnp.where(fits, area(boxes)[None], jnp.inf)
    return jnp.where(jnp.any(fits, -1), jnp.argmin(size, -1), -1).astype(jnp.int32)


def assign_batch(
    locations: Float[Array, "batch locations 4"],
    boxes: Float[Array, "batch boxes 4"],
    is_target: Bool[Array, "batch boxes"],
    radius: Scalar = RADIUS,
    reach: Scalar = REACH,
) -> tuple[Int[Array, "batch locations"], Float[Array, "batch locations 4"]]:
    """Returns `assign` of every image, and the assigned boxes; those of the background are any."""
    index = jax.vmap(lambda *image: assign(*image, radius=radius, reach=reach))(locations, boxes, is_target)
    return index, jnp.take_along_axis(boxes, jnp.maximum(index, 0)[..., None], 1)


def inverse_areas(
    boxes: Float[Array, "batch boxes 4"], is_box: Bool[Array, "batch boxes"], size: tuple[int, int]
) -> Float[Array, "batch height width"]:
    """Returns 1 over the area of the smallest box around each place of a map, in places; 0 outside of all boxes.

    A box covers the places from the one that it begins in to the one after which it ends, that one included, as in
    FGD's code.

    Args:
        boxes: in fractions of the map's sides.
        is_box: False for rows that are none.
        size: height and width of the map.
    """

    def cover(axis: int) -> tuple[Bool[Array, "batch boxes side"], Float[Array, "batch boxes"]]:
        first, last = jnp.floor(boxes[..., axis] * size[axis]), jnp.ceil(boxes[..., axis + 2] * size[axis])
        places = jnp.arange(size[axis]).reshape(1, 1, -1)
        return (places >= first[..., None]) & (places <= last[..., None]), last - first + 1

    (rows, height), (columns, width) = cover(0), cover(1)
    covered = (rows & is_box[..., None])[..., :, None] & columns[..., None, :]
    return jnp.max(jnp.where(covered, (1 / jnp.maximum(height * width, 1))[..., None, None], 0.0), 1)


def _divide(numerator: Float[Array, "*n"], denominator: Float[Array, "*n"]) -> Float[Array, "*n"]:
    is_positive = denominator > 0
    return jnp.where(is_positive, numerator / jnp.where(is_positive, denominator, 1.0), 0.0)


def _positive(stride: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return jnp.where(stride > 0, stride, 1.0)
