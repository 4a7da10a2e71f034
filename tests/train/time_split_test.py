"""The time of a step by its parts: the part of an operation, and each moment counted once."""

import gzip
import json
import re

import pytest

import runs
from jaxdistill.train import time_split
from jaxdistill.train.time_split import Event

PROGRAM = """HloModule jit_one_step, is_scheduled=true

%body (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %sin.2 = f32[4]{0} sine(%p), metadata={op_name="jit(one_step)/jvp(terms.kd)/sin"}
  ROOT %cos.2 = f32[4]{0} cosine(%sin.2), metadata={op_name="jit(one_step)/transpose(jvp(networks.student))/cos"}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0)
  %while.1 = f32[4]{0} while(%x), metadata={op_name="jit(one_step)/writing/while"}
  %copy.1 = f32[4]{0} copy(%x)
  ROOT %fusion.1 = f32[4]{0} fusion(%x), kind=kLoop, calls=%body
}
"""


@pytest.mark.parametrize(
    ("op_name", "part"),
    [
        ("jit(one_step)/jvp(networks.student)/ViT/block3/add", "student forward"),
        ("jit(one_step)/transpose(jvp(networks.student))/ViT/block3/add", "student backward"),
        ("jit(many_steps)/while/body/vmap(transpose(jvp(networks.student)))/ViT/add", "student backward"),
        ("jit(one_step)/networks.teacher/transpose/transpose", "teacher forward"),
        ("jit(one_step)/transpose(jvp(terms.kd))/KD/mul", "loss"),
        ("jit(one_step)/input/vmap(_randint)/add", "input"),
        ("jit(one_step)/optimizer/add", "optimizer"),
        ("jit(one_step)/writing/while/body/networks.student/dot_general", "writing"),
        ("jit(measure_all)/while/body/metrics/reduce_sum", "metrics"),
        ("inputs['image']", "other"),
        ("", "other"),
    ],
)
def test_the_part_of_an_operation(op_name, part):
    assert time_split.find_part(op_name) == part


def test_a_fusion_is_of_the_part_of_its_result():
    module, parts = time_split.read_parts(PROGRAM)
    assert module == "jit_one_step"
    assert {name: parts.get(name) for name in ("while.1", "copy.1", "fusion.1")} == {
        "while.1": "writing",
        "copy.1": None,
        "fusion.1": "student backward",
    }


def test_each_moment_is_counted_once():
    """Two runs: a loop with an operation of no part in it, two operations at once, a wait, and time without any."""

    def event(start, end, name, run=1):
        return Event(1e9 * start, 1e9 * end, name, "jit_one_step", run)

    first = [event(0, 4, "while.1"), event(1, 2, "copy.1"), event(4, 6, "fusion.1"), event(9, 12, "while.1", run=2)]
    second = [event(5, 7, "copy.1")]
    waits = [Event(3e9, 8e9)]
    other = [Event(0, 9e9, "copy.1", "jit_other", 3)]
    _, parts = time_split.read_parts(PROGRAM)
    seconds, number = time_split.split([first, second, waits], "jit_one_step", parts, 2)
    assert number == 1
    assert seconds == {"writing": 4, "student backward": 1.5, "other": 1.5, "data": 1, "idle": 1}
    assert sum(time_split.split([first, other], "jit_one_step", parts, 2)[0].values()) == 9
    assert time_split.split([first[:3]], "jit_one_step", parts, 2) == ({"writing": 4, "student backward": 2}, 1)
    assert time_split.split([other], "jit_one_step", parts, 2) == ({}, 0)
    before = [event(-2, -1, "copy.1", run=0)]  # of a step in which the recording began
    assert time_split.split([first, second, waits, before], "jit_one_step", parts, 2) == (seconds, 1)
    line = time_split.describe(seconds, 1)
    assert line.startswith("a recorded step takes 9,000.00 ms: writing 4,000.00 (44.4%), ")


def test_events_are_those_of_the_first_device_and_waits(tmp_path, monkeypatch):
    def entry(name, pid=1, **facts):
        facts = {"hlo_op": name, "hlo_module": "jit_one_step", "run_id": "-7"} | facts
        return {"ph": "X", "pid": pid, "tid": 5, "ts": 1.5, "dur": 2.0, "name": name, "args": facts}

    names = [
        {"ph": "M", "pid": pid, "name": "process_name", "args": {"name": name}}
        for pid, name in ((1, "/host:CPU"), (2, "/device:GPU:1"))
    ]
    wait = {"ph": "X", "pid": 1, "tid": 9, "ts": 0.5, "dur": 1.0, "name": time_split.WAITED}
    entries = [entry("add"), entry("mul", device_ordinal="1"), entry("dot", pid=2), {**wait, "name": "other"}, wait]
    path = tmp_path / "perfetto_trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": names + entries}).encode()))
    expected = [[Event(1500, 3500, "add", "jit_one_step", -7)], [Event(500, 1500)]]
    assert time_split.read_events(path) == expected
    monkeypatch.setattr(time_split, "MOST_EVENTS", 7)
    assert time_split.read_events(path) == []


@pytest.mark.slow
def test_the_parts_of_a_recorded_step_add_up_to_its_time(tmp_path, capsys):
    written = runs.TINY.replace("tiny.py", "written.py")
    assert runs.launched(tmp_path, "--profile=4", "--config.steps_per_call=1", config=written) == 0
    parts = json.loads((tmp_path / "own" / "profile" / "parts.json").read_text())
    assert parts["steps"] == 3
    assert {"writing", "teacher forward", "student forward", "student backward", "loss", "optimizer"} <= {
        *parts["seconds"]
    }
    line = re.search(r"stage own: a recorded step takes ([\d.,]+) ms: (.*)", capsys.readouterr().err)
    listed = [float(number.replace(",", "")) for number in re.findall(r" ([\d.,]+) \(", line[2])]
    assert sum(listed) == pytest.approx(float(line[1].replace(",", "")), rel=0.03)
