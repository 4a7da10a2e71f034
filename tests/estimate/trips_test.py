"""Numbers of iterations: loops written by hand, and those of compiled scans."""

import re

import jax
import jax.numpy as jnp
import pytest

from jaxdistill.estimate import hlo

LOOP = """HloModule m

%compared (param.0: s32[], param.1: s32[]) -> pred[] {
  %param.0 = s32[] parameter(0)
  %param.1 = s32[] parameter(1)
  ROOT %fused = pred[] compare(%param.1, %param.0), direction=LT
}

%stepped (param.2: s32[]) -> s32[] {
  %param.2 = s32[] parameter(0)
  %two = s32[] constant(2)
  ROOT %sum = s32[] add(%two, %param.2)
}

%condition (carry.1: (s32[], s32[], f32[])) -> pred[] {
  %carry.1 = (s32[], s32[], f32[]) parameter(0)
  %counter.1 = s32[] get-tuple-element(%carry.1), index=0
  %limit.1 = s32[] get-tuple-element(%carry.1), index=1
  %nine = s32[] constant(9)
  %one.1 = s32[] constant(1)
  %later = s32[] add(%counter.1, %one.1)
  ROOT CONDITION
}

%body (carry.2: (s32[], s32[], f32[])) -> (s32[], s32[], f32[]) {
  %carry.2 = (s32[], s32[], f32[]) parameter(0)
  %counter.2 = s32[] get-tuple-element(%carry.2), index=0
  %limit.2 = s32[] get-tuple-element(%carry.2), index=1
  %x.2 = f32[] get-tuple-element(%carry.2), index=2
  %one = s32[] constant(1)
  %by_data = s32[] multiply(%counter.2, %one)
  %next = STEP
  %work = f32[] exponential(%x.2)
  ROOT %done = (s32[], s32[], f32[]) tuple(%next, %limit.2, %work)
}

%outer_condition (carry.3: (s32[], s32[], f32[])) -> pred[] {
  %carry.3 = (s32[], s32[], f32[]) parameter(0)
  %counter.3 = s32[] get-tuple-element(%carry.3), index=0
  %three = s32[] constant(3)
  ROOT %less.3 = pred[] compare(%counter.3, %three), direction=LT
}

%outer (carry.4: (s32[], s32[], f32[])) -> (s32[], s32[], f32[]) {
  %carry.4 = (s32[], s32[], f32[]) parameter(0)
  %counter.4 = s32[] get-tuple-element(%carry.4), index=0
  %limit.4 = s32[] get-tuple-element(%carry.4), index=1
  %x.4 = f32[] get-tuple-element(%carry.4), index=2
  %first = s32[] constant(FIRST)
  %before = (s32[], s32[], f32[]) tuple(%first, %limit.4, %x.4)
  %inner_loop = (s32[], s32[], f32[]) while(%before), condition=%condition, body=%body
  %result = f32[] get-tuple-element(%inner_loop), index=2
  %one.4 = s32[] constant(1)
  %next.4 = s32[] add(%counter.4, %one.4)
  ROOT %done.4 = (s32[], s32[], f32[]) tuple(%next.4, LIMIT, %result)
}

ENTRY %main (x: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %zero = s32[] constant(0)
  %limit = s32[] constant(10)
  %same = s32[] copy(%limit)
  %start = (s32[], s32[], f32[]) tuple(%zero, %same, %x)
  %outer_loop = (s32[], s32[], f32[]) while(%start), condition=%outer_condition, body=%outer
  ROOT %end = f32[] get-tuple-element(%outer_loop), index=2
}
"""

ADD, FUSED_ADD = "s32[] add(%counter.2, %one)", "s32[] fusion(%counter.2), kind=kLoop, calls=%stepped"
SUBTRACT, BY_DATA = "s32[] subtract(%counter.2, %one)", "s32[] add(%counter.2, %by_data)"


def compare(left, right, direction):
    return f"%less = pred[] compare({left}, {right}), direction={direction}"


@pytest.mark.parametrize(
    ("condition", "step", "first", "trips"),
    [
        (compare("%counter.1", "%nine", "LT"), ADD, 0, 9),
        (compare("%counter.1", "%nine", "LE"), ADD, 0, 10),
        (compare("%nine", "%counter.1", "GT"), ADD, 2, 7),
        (compare("%counter.1", "%nine", "NE"), ADD, 4, 5),
        (compare("%counter.1", "%nine", "GE"), SUBTRACT, 12, 4),
        (compare("%counter.1", "%nine", "LT"), FUSED_ADD, 0, 5),
        (compare("%later", "%nine", "LT"), ADD, 0, 8),
        (compare("%counter.1", "%nine", "LT"), ADD, 11, 0),
        # The limit comes from outside of both loops, which leave it as it was.
        (compare("%counter.1", "%limit.1", "LT"), ADD, 0, 10),
        ("%less = pred[] fusion(%limit.1, %counter.1), kind=kLoop, calls=%compared", ADD, 0, 10),
        # A loop without end, one that depends on data, and one that never meets its limit.
        (compare("%counter.1", "%nine", "LT"), SUBTRACT, 0, None),
        (compare("%counter.1", "%nine", "LT"), BY_DATA, 0, None),
        (compare("%counter.1", "%nine", "NE"), FUSED_ADD, 0, None),
    ],
)
def test_iterations_are_those_from_the_first_value_to_the_limit(condition, step, first, trips):
    module = hlo.Module(read(CONDITION=condition, STEP=step, FIRST=str(first)))
    runs = {x.name: x.runs for x in module.instructions}
    assert runs["work"] == 3 * (1 if trips is None else trips)
    assert module.loops_without_trips == (["inner_loop"] if trips is None else [])


def test_a_limit_that_a_loop_around_changes_is_no_constant():
    condition = compare("%counter.1", "%limit.1", "LT")
    module = hlo.Module(read(CONDITION=condition, STEP=ADD, FIRST="0", LIMIT="%next.4"))
    assert module.loops_without_trips == ["inner_loop"]


def read(LIMIT="%limit.4", **parts):
    text = LOOP
    for name, part in {**parts, "LIMIT": LIMIT}.items():
        text = text.replace(name, part)
    return text


def test_compiled_scans_count_by_their_trips_and_a_loop_over_data_does_not():
    def run(x, n):
        def outer(x, _):
            return jax.lax.scan(lambda x, _: (jnp.sin(x), None), x, None, length=5)[0], None

        x = jax.lax.scan(outer, x, None, length=7)[0]
        return jax.lax.fori_loop(0, n, lambda _, x: jnp.cos(x), x)

    text = jax.jit(run).lower(jnp.ones(8), 3).compile().as_text()
    for without in (text, re.sub(r'"known_trip_count":\{"n":"\d+"\}', '"x":""', text)):
        module = hlo.Module(without)
        runs = {x.opcode: x.runs for x in module.instructions if x.opcode in ("sine", "cosine")}
        assert runs == {"sine": 35, "cosine": 1}
        assert len(module.loops_without_trips) == 1
