"""The kinds of convolutions, by the definition of a call; and that calls count as XLA's equations do."""

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.runtime.onednn import operation, program
from jaxdistill.train import flops
from onednn_calls import EveryGeometry, count_calls, count_equations, define_call, draw, gradients, largest_difference

ONES = ((1, 1), (1, 1))
# size, kernel, stride, padding, dilation, groups, inputs, outputs
CASES = {
    "same": (6, 3, 1, "SAME", 1, 1, 3, 4),
    "stride and explicit padding": (6, 3, 2, ONES, 1, 1, 3, 4),
    "uneven size and padding": (7, 3, 2, ((2, 0), (0, 1)), 1, 1, 3, 4),
    "pointwise with a stride": (6, 1, 2, "VALID", 1, 1, 3, 4),
    "dilation": (9, 3, 2, "SAME", 2, 1, 3, 4),
    "groups": (6, 3, 2, ONES, 1, 2, 4, 6),
    "wide groups": (5, 3, 1, "SAME", 1, 2, 16, 16),
    "depthwise": (6, 3, 1, "SAME", 1, 4, 4, 8),
}
SHAPES = {
    name: ((2, size, size + 1, inputs), (kernel, kernel, inputs // groups, outputs))
    for name, (size, kernel, _, _, _, groups, inputs, outputs) in CASES.items()
}


def run_all(arrays):
    """Computes every case, and some over lanes."""
    each = {name: gradients(*case[2:6]) for name, case in CASES.items()}
    outputs = {name: run(*arrays[name]) for name, run in each.items()}
    for name in ("stride and explicit padding", "groups"):
        x, w = (jnp.stack([a, a + 1, 2 * a]) for a in arrays[name])
        outputs |= {f"{name}, lanes": jax.vmap(each[name])(x, w)}
        outputs |= {f"{name}, one kernel": jax.vmap(each[name], (0, None))(x, w[0])}
    x, _ = arrays["same"]
    (kernel,) = draw((2, 2, 3, 4))
    return outputs | {"transposed": jax.lax.conv_transpose(x, kernel, (2, 2), "SAME")}


def test_every_kind_is_found_and_is_what_xla_computes(monkeypatch):
    monkeypatch.setattr(jax.ffi, "ffi_call", define_call)
    arrays = {name: draw(*shapes) for name, shapes in SHAPES.items()}
    rewritten = program.use_onednn(run_all, EveryGeometry())
    assert count_equations("conv_general_dilated", rewritten, arrays) == 0
    expected, outputs = jax.jit(lambda arrays: (run_all(arrays), rewritten(arrays)))(arrays)
    for name in expected:
        assert largest_difference(expected[name], outputs[name]) < 2e-6, name


@pytest.mark.parametrize("name", CASES)
def test_flops_of_calls_are_those_of_the_equations(name):
    """A gradient by the source with a stride counts a whole number of products for each place."""
    run, (x, w) = gradients(*CASES[name][2:6]), draw(*SHAPES[name])
    rewritten = program.use_onednn(run, EveryGeometry())
    assert count_calls(rewritten, x, w) == 3
    assert flops.count(rewritten, x, w) == flops.count(run, x, w)


@pytest.mark.parametrize(
    ("x", "w", "options"),
    [
        ((2, 6, 6, 3), (3, 3, 3, 4), {"padding": ((-1, 1), (1, 1))}),  # cuts places off
        ((2, 6, 6, 3), (3, 3, 3, 4), {"padding": ONES, "lhs_dilation": (2, 2), "window_strides": (2, 2)}),
        ((2, 6, 3), (3, 3, 4), {"padding": "SAME", "dimension_numbers": ("NHC", "HIO", "NHC"), "window_strides": (1,)}),
        ((2, 3, 6, 6), (4, 3, 3, 3), {"padding": "SAME", "dimension_numbers": ("NCHW", "OIHW", "NCHW")}),
    ],
    ids=["cut", "two strides", "one dimension", "channels first"],
)
def test_others_are_left(x, w, options):
    options = {"window_strides": (1, 1), "dimension_numbers": ("NHWC", "HWIO", "NHWC")} | options
    run = lambda x, w: jax.lax.conv_general_dilated(x, w, **options)  # noqa: E731
    assert count_calls(program.use_onednn(run, EveryGeometry()), *draw(x, w)) == 0


def test_other_dtypes_are_left():
    x, w = draw((2, 6, 6, 3), (3, 3, 3, 4), dtype=jnp.float16)
    assert count_calls(program.use_onednn(gradients(1, "SAME"), EveryGeometry()), x, w) == 0


def test_fields_are_those_of_the_source():
    """The struct of `convolution.cc` has the same names in the same order."""
    text = operation.__file__.replace("operation.py", "convolution.cc")
    with open(text) as file:
        declared = file.read().partition("struct Geometry {\n  int64_t ")[2].partition(";")[0]
    assert [name.strip() for name in declared.split(",")] == list(operation.Geometry.__dataclass_fields__)
