"""Prefetching: inputs on the device before they are needed, and the time that the device waits for them."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax

PREFETCH = 2
"""Batches that are on the device, or on their way, beside the one in use."""

POLL_SECONDS = 0.005
"""Seconds between checks whether the device is still working."""

LATE_SECONDS = 30.0
"""Seconds without a batch after which that is reported."""


class Prefetcher:
    """Hands out what `batches` yields; with `size`, a thread draws it while the device works.

    Args:
        batches: the inputs of each dispatch, on the device, in order.
        size: the number drawn in advance; 0 to draw each on demand.
        log: prints a line.
        late_seconds: seconds without a batch after which a line is printed.
    """

    def __init__(
        self,
        batches: Iterator[Any],
        size: int,
        log: Callable[[str], None],
        late_seconds: float = LATE_SECONDS,
    ):
        self._batches, self._log, self._late_seconds, self._closed = batches, log, late_seconds, False
        self._queue: queue.Queue[Any] | None = queue.Queue(size) if size else None
        if self._queue:
            self._thread = threading.Thread(target=self._fill, name="prefetch", daemon=True)
            self._thread.start()

    def next(self, running: Any) -> tuple[Any, float]:
        """Returns the next inputs, and the seconds for which the device was idle until they came.

        Args:
            running: the results of the dispatch under way; `None` if there is none.
        """
        began = time.perf_counter()
        if self._queue is None:
            batch = next(self._batches)
            return batch, (time.perf_counter() - began if _is_done(running) else 0.0)
        idle_since = began if _is_done(running) else None
        late = began + self._late_seconds
        while True:
            try:
                batch = self._queue.get(timeout=POLL_SECONDS)
                break
            except queue.Empty:
                now = time.perf_counter()
                if idle_since is None and _is_done(running):
                    idle_since = now
                if now > late:
                    self._log(f"no data came for {now - began:.0f} s; still waiting")
                    late = now + self._late_seconds
        if isinstance(batch, BaseException):
            raise batch
        return batch, (0.0 if idle_since is None else time.perf_counter() - idle_since)

    def _fill(self) -> None:
        try:
            for batch in self._batches:
                if not self._put(batch):
                    return
        except BaseException as error:  # raised by `next` in its place
            self._put(error)

    def _put(self, item: Any) -> bool:
        while self._queue is not None and not self._closed:
            try:
                self._queue.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def close(self) -> None:
        """Stops prefetching and discards unused batches."""
        self._closed = True


def _is_done(running: Any) -> bool:
    return running is None or all(x.is_ready() for x in jax.tree.leaves(running))


def one_behind(results: Iterator[Any]) -> Iterator[Any]:
    """Yields each result when the next one is dispatched, so that the device never waits for the host."""
    pending = next(results)
    for result in results:
        yield pending
        pending = result
    yield pending
