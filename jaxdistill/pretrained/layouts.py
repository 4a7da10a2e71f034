"""Orders of the axes of an array here and in other formats, converted in both directions without arithmetic."""

import dataclasses
import math

import numpy as np

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The axes of a tensor of another format, against those of an array here.

    Attributes:
        order: for each axis here its position in the tensor, before any axes are merged; () for the same order.
        merged: axes of the tensor that are one there and several here, as counts: (2, 1) for `[heads * width, in]`
            that is `[heads, width, in]`; () if none are.
        flat: whether the tensor has more axes: it is transposed and then reshaped, and the last axis stays.
        flipped: the axis here whose order is reversed, such as that of blue, green and red.
    """

    order: tuple[int, ...] = ()
    merged: tuple[int, ...] = ()
    flat: bool = False
    flipped: int | None = None

    def tensor_shape(self, shape: Shape) -> Shape | None:
        """Returns the shape of the tensor of an array of a shape here; `None` if that does not determine it."""
        if self.flat:
            return None
        if len(self.order) not in (0, len(shape)):
            return None
        whole = tuple(shape[self.order.index(axis)] for axis in range(len(shape))) if self.order else shape
        if not self.merged:
            return whole
        sizes = iter(whole)
        return tuple(math.prod(next(sizes) for _ in range(count)) for count in self.merged)

    def fits(self, tensor_shape: Shape, shape: Shape) -> bool:
        """Whether a tensor of a shape holds an array of a shape here."""
        if not self.flat:
            return self.tensor_shape(shape) == tensor_shape
        moved = tuple(tensor_shape[axis] for axis in self.order) if len(tensor_shape) == len(self.order) else ()
        return bool(moved) and (math.prod(moved), moved[-1]) == (math.prod(shape), shape[-1])

    def from_tensor(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        """Returns a tensor as an array of a shape here; a view unless `flat`."""
        array = self._moved(tensor, shape)
        return array if self.flipped is None else np.flip(array, self.flipped)

    def _moved(self, tensor: np.ndarray, shape: Shape) -> np.ndarray:
        if self.flat:
            return tensor.transpose(self.order).reshape(shape)
        if not self.order:
            return tensor.reshape(shape)
        whole = tuple(shape[self.order.index(axis)] for axis in range(len(shape)))
        return tensor.reshape(whole).transpose(self.order)

    def to_tensor(self, array: np.ndarray, tensor_shape: Shape) -> np.ndarray:
        """The inverse of `from_tensor`."""
        array = array if self.flipped is None else np.flip(array, self.flipped)
        if self.flat:
            array = array.reshape([tensor_shape[axis] for axis in self.order])
        inverse = [self.order.index(axis) for axis in range(len(self.order))] if self.order else None
        return (array if inverse is None else array.transpose(inverse)).reshape(tensor_shape)


SAME = Layout()
LINEAR = Layout((1, 0))
"""`[out, in]`, here `[in, out]`."""
HEADS = Layout((2, 0, 1), (2, 1))
"""`[heads * width, in]`, here `[in, heads, width]`."""
HEADS_BIAS = Layout((0, 1), (2,))
"""`[heads * width]`, here `[heads, width]`."""
OUT = Layout((1, 2, 0), (1, 2))
"""`[out, heads * width]`, here `[heads, width, out]`."""
HEADS_IN_FIRST = Layout((0, 1, 2), (1, 2))
"""`[in, heads * width]`, as GPT-2 has it, here `[in, heads, width]`."""
OUT_IN_FIRST = Layout((0, 1, 2), (2, 1))
"""`[heads * width, out]`, as GPT-2 has it, here `[heads, width, out]`."""
CONV = Layout((2, 3, 1, 0))
"""`[out, in, height, width]`, here `[height, width, in, out]`."""
PATCHES = Layout((2, 3, 1, 0), flat=True)
"""`[out, in, side, side]`, here `[side * side * in, out]`: a convolution without overlap as a linear layer."""
LEADING = Layout((0, 1, 2), (3,))
"""`[width]`, here `[1, 1, width]`."""
TRAILING = Layout((1, 2, 0), flat=True)
"""`[width, 1, 1]`, here `[width]`."""
PLACES = Layout((2, 3, 1, 0), (1, 3))
"""`[out, in * height * width]`, here `[height, width, in, out]`: a linear layer of all places as a convolution."""
PLACES_IN_FIRST = Layout((0, 1, 2, 3), (3, 1))
"""`[height * width * in, out]`, as Keras has it, here `[height, width, in, out]`."""
BGR = Layout(flipped=2)
"""`[height, width, in, out]` of blue, green and red, here of red, green and blue."""
