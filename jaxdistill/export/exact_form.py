"""The smallest form in which a file holds an array exactly: fewer values, fewer bits, or both.

A mask leaves many zeros, a codebook few different numbers, and binary weights one magnitude for each output channel:
such arrays leave as the values that are not zero with a bit for each weight, as indices into a table, or as signs with
magnitudes; integers in their own bits. The arrays of a form, besides `NAME` itself:

    NAME.mask   uint8: a bit for each weight, 1 for those that are stored; all others are 0
    NAME.table  float32: the numbers that the integers are indices of
    NAME.scale  float32, of as many axes as the array: multiplies the numbers
    NAME.zero   int8: the integer of the number 0

Bits fill bytes from the lowest one on, across the limits of bytes; integers below 0 are two's complements.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxdistill.compress.packing import StoredIntegers

MASK, TABLE, SCALE, ZERO = ".mask", ".table", ".scale", ".zero"
"""Endings of the names of what belongs to an array."""

WHOLE = 32
"""Bits of a number that stays in float32."""

LARGEST_TABLE = 256


class Form(NamedTuple):
    """An array as a file holds it; float32, unless it is plain.

    Attributes:
        arrays: by the ending of their name, "" for the array itself.
        bits: of each stored value.
        shape: of the array.
    """

    arrays: Mapping[str, np.ndarray]
    bits: int
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes of its arrays."""
        return sum(x.nbytes for x in self.arrays.values())

    @property
    def is_plain(self) -> bool:
        """Whether the array is stored as it is."""
        return self.bits == WHOLE and [*self.arrays] == [""]


def encode(array: np.ndarray | StoredIntegers) -> Form:
    """Returns the smallest form of an array; of equal ones the plainest."""
    forms = _forms_of_integers(array) if isinstance(array, StoredIntegers) else _forms_of_floats(array)
    return min(forms, key=lambda form: form.bytes)


def decode(form: Form) -> np.ndarray:
    """Returns the array of a form, float32."""
    arrays, count = form.arrays, math.prod(form.shape)
    nonzero = np.ones(count, bool)
    if MASK in arrays:
        nonzero = np.unpackbits(arrays[MASK], count=count, bitorder="little") > 0
    values = arrays[""]
    if form.bits != WHOLE:
        values = unpack_bits(values, form.bits, int(nonzero.sum()), signed=TABLE not in arrays)
    if TABLE in arrays:
        values = arrays[TABLE][values]
    whole = np.zeros(count, np.float32)
    whole[nonzero] = values.reshape(-1)
    whole = whole.reshape(form.shape)
    whole = whole - arrays[ZERO].astype(np.float32) if ZERO in arrays else whole
    return whole * arrays[SCALE] if SCALE in arrays else whole


def pack_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Returns integers of some bits one after the other, uint8 `[ceil(n bits / 8)]`."""
    columns = (values.reshape(-1, 1).astype(np.int16) >> np.arange(bits)) & 1
    return np.packbits(columns.astype(np.uint8), bitorder="little")


def unpack_bits(packed: np.ndarray, bits: int, count: int, *, signed: bool) -> np.ndarray:
    """Returns `count` integers of some bits."""
    columns = np.unpackbits(packed.view(np.uint8), count=count * bits, bitorder="little").reshape(count, bits)
    powers = 2 ** np.arange(bits)
    powers[-1] *= -1 if signed else 1
    return columns @ powers


def _forms_of_integers(array: StoredIntegers) -> Iterator[Form]:
    values, shape = array.values, array.values.shape
    scales = {SCALE: array.scale} | ({} if array.zero is None else {ZERO: array.zero})
    # Eight bits without a mask are an array that any program reads.
    whole = values if array.bits == 8 else pack_bits(values, array.bits)
    yield Form({"": whole, **scales}, array.bits, shape)
    if array.zero is None and not values.all():
        mask = values.reshape(-1) != 0
        nonzero = pack_bits(values.reshape(-1)[mask], array.bits)
        yield Form({"": nonzero, MASK: np.packbits(mask, bitorder="little"), **scales}, array.bits, shape)


def _forms_of_floats(array: np.ndarray) -> Iterator[Form]:
    yield Form({"": array}, WHOLE, array.shape)
    if array.dtype != np.float32 or array.ndim < 2 or not array.size:
        return
    flat = array.reshape(-1)
    # -0.0 is a number of its own, which a mask of zeros would change.
    mask = flat.view(np.uint32) != 0
    masked: dict[str, np.ndarray] = {} if mask.all() else {MASK: np.packbits(mask, bitorder="little")}
    nonzero = flat[mask]
    if masked:
        yield Form({"": nonzero, **masked}, WHOLE, array.shape)
    for form in itertools.chain(_table(nonzero), _signs(array, mask)):
        yield form._replace(arrays={**form.arrays, **masked}, shape=array.shape)


def _table(nonzero: np.ndarray) -> Iterator[Form]:
    # A part decides for most arrays, without the sorting of all.
    if len(np.unique(nonzero[: 4 * LARGEST_TABLE])) > LARGEST_TABLE:
        return
    table, index = np.unique(nonzero, return_inverse=True)
    if 1 < len(table) <= LARGEST_TABLE:
        bits = (len(table) - 1).bit_length()
        yield Form({"": pack_bits(index, bits), TABLE: table}, bits, nonzero.shape)


def _signs(array: np.ndarray, mask: np.ndarray) -> Iterator[Form]:
    axes = tuple(range(array.ndim))
    for summed in (axes[:-1], axes[1:]):
        scale = np.max(np.abs(array), summed, keepdims=True)
        if np.array_equal(np.abs(array).reshape(-1)[mask], np.broadcast_to(scale, array.shape).reshape(-1)[mask]):
            nonzero = array.reshape(-1)[mask] > 0
            yield Form({"": pack_bits(nonzero, 1), TABLE: np.float32([-1, 1]), SCALE: scale}, 1, array.shape)


def describe(form: Form) -> dict[str, Any]:
    """Returns the entry of a form in `config.json`."""
    return {"bits": form.bits, "shape": list(form.shape)}


def parse(name: str, entry: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Form:
    """Returns the form of an array from the tensors of a file and its entry."""
    endings = [ending for ending in ("", MASK, TABLE, SCALE, ZERO) if name + ending in tensors]
    return Form({ending: tensors[name + ending] for ending in endings}, entry["bits"], tuple(entry["shape"]))
