"""What the steps are fed with, on the device before it is needed; and how long the device waited for it."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

AHEAD = 2
"""Batches that are on the device, or on their way, beside the one that is worked on."""

SOON = 0.005
"""Seconds between looks at whether the device still works."""

LATE = 30.0
"""Seconds without a batch after which that is told."""


class Feeding:
    """Hands out what `batches` yields; with `ahead`, a thread of its own draws it while the device works.

    Args:
        batches: what a dispatch is fed with, on the device, one after the other.
        ahead: how many are drawn in advance; 0 to draw each when it is asked for.
        say: what prints.
    """

    def __init__(self, batches: Iterator[Any], ahead: int, say: Callable[[str], None]):
        self._batches, self._say, self._closed = batches, say, False
        self._queue: queue.Queue[Any] | None = queue.Queue(ahead) if ahead else None
        if self._queue:
            self._thread = threading.Thread(target=self._fill, name="feeding", daemon=True)
            self._thread.start()

    def next(self, running: Any) -> tuple[Any, float]:
        """Returns the next, and for how many seconds the device had nothing to do until it came.

        Args:
            running: what the dispatch under way will return; `None` where there is none.
        """
        began = time.perf_counter()
        if self._queue is None:
            batch = next(self._batches)
            return batch, (time.perf_counter() - began if _is_done(running) else 0.0)
        idle, late = (began if _is_done(running) else None), began + LATE
        while True:
            try:
                batch = self._queue.get(timeout=SOON)
                break
            except queue.Empty:
                now = time.perf_counter()
                if idle is None and _is_done(running):
                    idle = now
                if now > late:
                    self._say(f"no data came for {now - began:.0f} s; still waiting")
                    late = now + LATE
        if isinstance(batch, BaseException):
            raise batch
        return batch, (0.0 if idle is None else time.perf_counter() - idle)

    def _fill(self) -> None:
        try:
            for batch in self._batches:
                if not self._give(batch):
                    return
        except BaseException as error:  # raised where the batch is asked for
            self._give(error)

    def _give(self, item: Any) -> bool:
        while not self._closed:
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def close(self) -> None:
        """Stops drawing; what was drawn in vain is dropped."""
        self._closed = True


def _is_done(running: Any) -> bool:
    return running is None or all(x.is_ready() for x in jax.tree.leaves(running))
