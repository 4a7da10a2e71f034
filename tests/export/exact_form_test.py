"""Forms of arrays in a file: the same numbers bit by bit, and sizes by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdistill.compress.binary import Binary
from jaxdistill.compress.codebook import Codebook
from jaxdistill.compress.packing import StoredIntegers
from jaxdistill.compress.quantize import Quantize
from jaxdistill.compress.sparse import Sparse
from jaxdistill.compress.views import Views
from jaxdistill.export import exact_form
from jaxdistill.export.weights import make_weights, trained_integers

rng = np.random.default_rng(0)
NORMAL = rng.normal(size=(40, 6)).astype(np.float32)
SCALE = np.abs(rng.normal(size=(1, 6))).astype(np.float32)
TABLE = rng.normal(size=5).astype(np.float32)
INDEX = np.arange(240).reshape(40, 6) % 5
THIRD = np.arange(240).reshape(40, 6) % 3 == 0
SIGNS = np.where(NORMAL > 0, SCALE, -SCALE)

ARRAYS = {
    # name: (array, bytes, bits)
    "dense": (NORMAL, 240 * 4, 32),
    "masked": (np.where(THIRD, NORMAL, 0), 80 * 4 + 240 // 8, 32),
    "table": (TABLE[INDEX], 240 * 3 // 8 + 5 * 4, 3),
    "masked table": (np.where(THIRD, TABLE[INDEX], 0), 80 * 3 // 8 + 240 // 8 + 5 * 4, 3),
    "signs": (SIGNS, 240 // 8 + 2 * 4 + 6 * 4, 1),
    "signs of rows": (SIGNS.T.copy(), 240 // 8 + 2 * 4 + 6 * 4, 1),
    "few": (NORMAL[:1, :1], 4, 32),
    "bias": (np.zeros(64, np.float32), 256, 32),
    "zeros": (np.zeros((4, 8), np.float32), 4, 32),
    "counts": (np.zeros((4, 8), np.int32), 128, 32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_floats(name):
    array, size, bits = ARRAYS[name]
    form = exact_form.encode(array)
    assert (form.bytes, form.bits) == (size, bits)
    assert form.is_plain == (name in ("dense", "few", "bias", "counts"))
    if array.dtype == np.float32:
        assert exact_form.decode(form).tobytes() == array.tobytes()
        assert exact_form.decode(form).shape == array.shape


def test_a_negative_zero_is_a_number():
    array = np.where(THIRD, NORMAL, np.float32(-0.0))
    assert exact_form.decode(exact_form.encode(array)).tobytes() == array.tobytes()
    assert exact_form.MASK not in exact_form.encode(array).arrays


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_integers(bits, zeros, affine):
    values = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (11, 7)).astype(np.int8)
    values[values == 0] = 1
    if zeros:
        values[:, 2:] = 0
    zero = np.full((1, 7), -1, np.int8) if affine else None
    array = StoredIntegers(values, np.abs(rng.normal(size=(1, 7))).astype(np.float32), bits, zero=zero)
    form = exact_form.encode(array)
    kept = 22 if zeros and not affine else 77
    mask = -(-77 // 8) if kept == 22 else 0
    assert form.bytes == -(-kept * bits // 8) + mask + 7 * 4 + 7 * affine
    assert exact_form.decode(form).tobytes() == array.dequantize().tobytes()


def test_each_output_of_a_head_and_of_a_layer_has_a_scale_of_its_own():
    kernel = rng.normal(size=(3, 16, 8)).astype(np.float32) * np.float32([[[1]], [[10]], [[100]]])
    params = {"blocks": {"dense": {"kernel": kernel}}, "query": {"kernel": kernel}, "embed": {"embedding": kernel[0]}}
    weights = make_weights({"params": params}, 4)
    assert weights["params/blocks/dense/kernel"].scale.shape == (3, 1, 8)
    assert weights["params/query/kernel"].scale.shape == (1, 16, 8)
    assert weights["params/embed/embedding"].scale.shape == (16, 1)
    layers = weights["params/blocks/dense/kernel"]
    assert (np.abs(layers.dequantize() - kernel) <= layers.scale / 2 * 1.0001).all()


def test_a_view_that_has_not_begun_leaves_no_integers():
    views = Views.of({"round": Quantize(bits=2, start=5)})
    variables = jax.tree.map(np.asarray, views.start({"params": {"dense": {"kernel": jnp.asarray(NORMAL)}}}))
    assert trained_integers(views, variables) == {}
    assert views.stored_bytes(variables) == NORMAL.nbytes


def test_bits_fill_bytes_from_the_lowest_on():
    assert exact_form.pack_bits(np.array([1, 2, 3]), 3).tolist() == [0b11010001, 0]
    assert exact_form.pack_bits(np.array([1, -1, 7, -8]), 4).tolist() == [0xF1, 0x87]


@pytest.mark.parametrize(
    "views",
    [
        dict(a=Quantize(bits=8)),
        dict(a=Quantize(bits=3)),
        dict(a=Quantize(bits=4, per="tensor", symmetric=False)),
        dict(a=Sparse(sparsity=0.75)),
        dict(a=Codebook(size=5, iterations=1)),
        dict(a=Codebook(size=5, iterations=1), b=Sparse(n=2, m=4)),
        dict(a=Quantize(bits=4), b=Sparse(n=2, m=4)),
    ],
)
def test_the_bytes_of_a_final_table_are_those_of_the_file(views):
    views = Views.of(views)
    params = {"dense": {"kernel": jnp.asarray(NORMAL + 0.5), "bias": jnp.ones(6)}}
    variables = views.start({"params": params})
    host = jax.tree.map(np.asarray, variables)
    finished = jax.tree.map(np.asarray, views.finish(variables))
    integers = trained_integers(views, host)
    weights = make_weights(finished, 8 if integers else 0, integers)
    signs = 2 * 4 * any(isinstance(view, Binary) for _, view in views.entries)  # the table of a sign, -1 and 1
    size = sum(exact_form.encode(x).bytes for x in weights.values()) - signs
    counted = views.stored_bytes(variables)
    # Each array fills whole bytes; a kept weight that rounds to 0 and a value without weights leave none.
    assert 0.95 * counted <= size <= counted + 1
