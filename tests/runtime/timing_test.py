"""Timing in turns."""

from jaxdistill.runtime import timing


def test_calls_take_turns_and_each_round_begins_with_another():
    called = []
    calls = {name: (lambda name=name: called.append(name)) for name in "abc"}
    seconds = timing.time_interleaved(calls, rounds=4, warm_up=2)
    assert "".join(called) == "abcabc" + "abc" + "bca" + "cab" + "abc"
    assert {name: len(own) for name, own in seconds.items()} == {"a": 4, "b": 4, "c": 4}
    assert min(map(min, seconds.values())) >= 0
