"""Inheritance: the first arrays of a network, from those of another of its family, often a larger one.

    blocks         block i of l, from block (i + 1) L / l - 1 of L, or as listed
    slice          the units of the largest weights, of every group of units that is smaller (`unit_groups`)
    pca            the width of streams and embeddings by principal components V of the table: E V, and V' W for what
                   reads them; other groups by slices; norms of the projected width start anew
    copies         units of a group of filters, heads or hidden units that is larger (`widen`)

Every second layer: Sanh et al., "DistilBERT", 2019, https://arxiv.org/abs/1910.01108, section 3. Principal components
of the width: Ashkboos et al., "SliceGPT", ICLR 2024, https://arxiv.org/abs/2401.15024, section 3, there of activations
and exact for root-mean-square norms; here of the embedding, as a start of training.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxdistill.compress import importance, widen
from jaxdistill.compress.unit_groups import Group, Units
from jaxdistill.errors import UserError

RULES = ("pca", "slice")
BLOCK = re.compile(r"^((?:\w+/)*block)(\d+)(/.*)$")
TABLE = "/embedding"

Arrays = Mapping[str, Array]
"""Arrays by flat name, with the collection in front."""


class Inheritance(NamedTuple):
    """Arrays of the student.

    Attributes:
        arrays: all of them.
        names: those that come from the teacher; others are fresh.
    """

    arrays: dict[str, Array]
    names: tuple[str, ...]


def inherit(
    teacher: Arrays,
    student: Arrays,
    units: Units,
    *,
    match: str = "",
    rule: str = "pca",
    blocks: Sequence[int] = (),
    path: str = "inherit",
) -> Inheritance:
    """Returns the student's arrays, those of the teacher's where they can be made to fit.

    Args:
        teacher: arrays of the network that it begins from.
        student: fresh ones; arrays of the same names belong to each other.
        units: of the teacher.
        match: regular expression of the names of the arrays that are inherited; all if empty.
        rule: "pca" or "slice".
        blocks: the teacher's block of each of the student's; () for evenly spaced ones.
        path: the section that holds these options, for messages.

    Raises:
        UserError: for no regular expression, and if no array matches, or none fits.
    """
    sources = source_names(teacher, student, blocks, path)
    try:
        re.compile(match)
    except re.error as error:
        raise UserError(f"{path}.match must be a regular expression, got {match!r} ({error}). Correct it") from error
    names = [name for name in sources if re.search(match, name.removeprefix("params/"))]
    if not names:
        both = [name.removeprefix("params/") for name in sources]
        raise UserError(f"{path}.match must match an array of both networks, got {match!r}. There are {both or 'none'}")
    fitted = _Fitted(teacher, units, rule)
    arrays, inherited = dict(student), []
    for name in names:
        array = fitted.fit(sources[name], student[name].shape)
        if array is not None:
            arrays[name] = jnp.asarray(array, student[name].dtype)
            inherited.append(name)
    if not inherited:
        tried = [name.removeprefix("params/") for name in names]
        raise UserError(
            f"{path}.match must match an array that fits, got {match!r}. Of {tried} none is at most as wide as"
            " there, and equal in axes that are no units"
        )
    return Inheritance(arrays, tuple(inherited))


def source_names(teacher: Arrays, student: Arrays, blocks: Sequence[int] = (), path: str = "inherit") -> dict[str, str]:
    """Returns the teacher's array for each of the student's that has one.

    Raises:
        UserError: for blocks that do not exist, or are not as many as the student's.
    """
    counts = [_count_blocks(arrays) for arrays in (teacher, student)]
    if blocks and (len(blocks) != counts[1] or not all(0 <= block < counts[0] for block in blocks)):
        raise UserError(
            f"{path}.blocks must be {counts[1]} numbers of blocks of {counts[0]}, got {tuple(blocks)}. Name one of the"
            " teacher's for each of the student's"
        )
    if not blocks and 0 < counts[1] <= counts[0]:
        blocks = [(index + 1) * counts[0] // counts[1] - 1 for index in range(counts[1])]
    names = {}
    for name in student:
        parts = BLOCK.match(name)
        source = name
        if parts and int(parts[2]) < len(blocks):
            source = f"{parts[1]}{blocks[int(parts[2])]}{parts[3]}"
        if source in teacher:
            names[name] = source
    return names


def _count_blocks(arrays: Arrays) -> int:
    return 1 + max((int(parts[2]) for parts in map(BLOCK.match, arrays) if parts), default=-1)


def principal_components(
    rows: Float[Array, "rows width"], count: int, centre: bool = True
) -> Float[Array, "width {count}"]:
    """Returns the directions of the largest variance, of unit length; the largest entry of each is positive.

    Args:
        rows: the data.
        count: number of components.
        centre: whether the mean is subtracted.
    """
    centred = rows - jnp.mean(rows, 0, keepdims=True) if centre else rows
    vectors = jnp.linalg.eigh(jnp.matmul(centred.T, centred, precision="highest"))[1][:, ::-1][:, :count]
    largest = jnp.take_along_axis(vectors, jnp.argmax(jnp.abs(vectors), 0)[None], 0)
    return vectors * jnp.sign(largest)


class _Fitted:
    """A network's arrays with other numbers of units: one choice, or one projection, for each group and size."""

    def __init__(self, arrays: Arrays, units: Units, rule: str) -> None:
        self.arrays, self.rule = arrays, rule
        self.groups = {(axis.array, axis.axis): (g, axis) for g in units.groups.values() for axis in g.axes}
        self.choices: dict[tuple[str, int], Array] = {}

    def fit(self, name: str, shape: tuple[int, ...]) -> Array | None:
        """Returns an array in another shape; `None` if it cannot have that."""
        x = self.arrays[name]
        if x.ndim != len(shape):
            return None
        for number, (before, after) in enumerate(zip(x.shape, shape, strict=True)):
            if before == after:
                continue
            group, axis = self.groups.get((name, number), (None, None))
            if group is None or axis is None or after % (before // group.size):
                return None
            size = after // (before // group.size)
            if size > group.size:
                if group.kind not in widen.KINDS:
                    return None
                x = widen.copy_units(x, axis, size)
            elif group.kind == "width" and self.rule == "pca":
                if self._is_norm(name):
                    return None
                x = jnp.moveaxis(jnp.tensordot(x, self._components(group, size), ((number,), (0,))), -1, number)
            else:
                x = axis.take(x, self._best(group, size))
        return x

    def _is_norm(self, name: str) -> bool:
        return self.arrays[name].ndim == 1 and f"{name.rpartition('/')[0]}/scale" in self.arrays

    def _best(self, group: Group, size: int) -> Array:
        if (group.name, size) not in self.choices:
            scores = importance.magnitude(self.arrays, group)
            self.choices[group.name, size] = jnp.sort(jnp.argsort(-scores, stable=True)[:size])
        return self.choices[group.name, size]

    def _components(self, group: Group, size: int) -> Array:
        if (group.name, size) not in self.choices:
            axes = [axis for axis in group.axes if self.arrays[axis.array].ndim > 1]
            tables = [axis for axis in axes if axis.array.endswith(TABLE)]
            largest = max(tables, key=lambda axis: self.arrays[axis.array].size, default=None)
            if largest is None:
                rows = jnp.concatenate([axis.units_first(self.arrays[axis.array]) for axis in axes], 1).T
            else:
                rows = largest.units_first(self.arrays[largest.array]).T
            self.choices[group.name, size] = principal_components(rows, size, centre=largest is not None)
        return self.choices[group.name, size]
