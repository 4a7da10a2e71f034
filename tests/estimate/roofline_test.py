"""Rooflines of instructions, and their products, by hand."""

import pathlib

import pytest

from estimate.hlo_test import TEXT
from jaxdistill.estimate import hlo, roofline
from jaxdistill.estimate.chips import Chip

CHIP = Chip("NVIDIA H100 80GB HBM3", 1.0, clock=0.0, bandwidth=1e9, memory=1 << 30)

KERNELS = (pathlib.Path(__file__).parent / "kernels.hlo").read_text()


def of(text, name):
    module = hlo.Module(text)
    return module, next(x for x in module.instructions if x.name == name)


CONVOLUTION = 2 * (8 * 32 * 32 * 32) * (3 * 3 * 16)


@pytest.mark.parametrize(
    ("name", "products"),
    [
        *((name, {"float32": CONVOLUTION}) for name in ("conv", "forward", "input", "filter")),
        ("gemm", {"bfloat16": 2 * 128 * 64 * 256}),
        # Two products of all queries and keys, and four; heads of 64 take as long as those of 128.
        ("splash_mha_fwd_segmented_residuals.1", {"bfloat16": 2 * 2 * (2 * 4) * 1024 * 1024 * 128}),
        ("splash_mha_dkv_segmented_no_residuals.2", {"bfloat16": 4 * 2 * (2 * 4) * 1024 * 1024 * 128}),
        ("sum", {}),
    ],
)
def test_products_of_a_kernel(name, products):
    assert roofline.count_products(*of(KERNELS, name)) == products


def test_products_inside_a_fusion_count():
    assert roofline.count_products(*of(TEXT, "fusion.1")) == {"bfloat16": 2 * 8 * 16 * 16}


def test_time_is_that_of_memory_or_of_products():
    assert roofline.least_seconds(*of(KERNELS, "sum"), CHIP) == pytest.approx(3 * 4 * 8 * 32 * 32 * 16 / 1e9)
    fast = Chip(CHIP.kind, 1.0, clock=0.0, bandwidth=1e18, memory=1)
    assert roofline.least_seconds(*of(KERNELS, "gemm"), fast) == pytest.approx(2 * 128 * 64 * 256 / 989.4e12)


@pytest.mark.parametrize("name", ["view", "wait", "x"])
def test_views_and_asynchronous_copies_take_no_time(name):
    assert roofline.least_seconds(*of(KERNELS, name), CHIP) == 0
