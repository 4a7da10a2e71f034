"""Timing of calls in turns, so that a busy machine is busy for all of them."""

import time
from collections.abc import Callable, Mapping
from typing import Any


def time_interleaved(calls: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Times every call once a round.

    Each round begins with another call than the last, so that none always follows the same one.

    Args:
        calls: each waits for what it starts: `jax.block_until_ready`, `torch.cuda.synchronize`.
        rounds: the number of times.
        warm_up: rounds before that are not timed.

    Returns:
        The seconds of each, `{name: [rounds]}`.
    """
    names = list(calls)
    for name in names * warm_up:
        calls[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % max(len(names), 1)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - began)
    return seconds
