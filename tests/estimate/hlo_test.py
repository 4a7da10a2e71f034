"""The text of an optimised module: runs of loops, operands, places in the code."""

import pathlib

import pytest

from jaxdistill.estimate import hlo

TEXT = (pathlib.Path(__file__).parent / "step.hlo").read_text().replace("PACKAGE", str(hlo.PACKAGE))


@pytest.fixture(scope="module")
def module():
    return hlo.Module(TEXT)


def find(module, name):
    (instruction,) = [x for x in module.instructions if x.name == name]
    return instruction


def test_bodies_of_loops_run_as_often_as_their_trips(module):
    runs = {x.name: x.runs for x in module.instructions}
    assert (runs["fusion.1"], runs["dot.1"], runs["update"]) == (12, 12, 1)
    assert module.loops_without_trips == ["while.2"]


def test_parts_of_fusions_are_told_from_what_is_executed(module):
    assert {x.name for x in module.instructions if x.is_fused} >= {"dot.1", "reduce-scatter.1"}
    assert not find(module, "fusion.1").is_fused
    assert "sum" not in {x.name for x in module.instructions}  # what a reduction applies is a part of it
    assert [x.name for x in module.parts(find(module, "fusion.1"))][-1] == "dot.1"


def test_an_instruction_has_its_shape_operands_and_estimate(module):
    product = find(module, "fusion.1")
    assert product.arrays == [("bf16", (8, 16))]
    assert module.operand_arrays(product) == [("bf16", (8, 16)), ("bf16", (16, 16))]
    assert (product.cycles, product.attribute("kind")) == (100, "kOutput")
    assert find(module, "attention").cycles is None
    assert find(module, "while.1").arrays == [("s32", ()), ("bf16", (8, 16)), ("bf16", (16, 16))]


def test_the_place_is_the_innermost_line_of_the_package_that_wraps_nothing(module):
    assert module.place(find(module, "fusion.1")) == "models/transformer.py:300"
    assert module.place(find(module, "update")) == ""
    older = hlo.Instruction("x", "add", "f32[]", (), f'source_file="{hlo.PACKAGE}/core.py" source_line=7', "main")
    assert module.place(older) == "core.py:7"
    product = f'source_file="{hlo.PACKAGE}/products.py" source_line=7'
    assert module.place(hlo.Instruction("x", "dot", "f32[]", (), product, "main")) == ""


def test_bytes_of_types():
    arrays = hlo.read_arrays("(f32[2,3]{1,0}, bf16[4]{0}, pred[8]{0}, s4[6]{0}, f8e4m3fn[2]{0}, token[])")
    assert hlo.count_bytes(arrays) == 24 + 8 + 8 + 3 + 2
