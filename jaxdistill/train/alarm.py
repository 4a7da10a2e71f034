"""Alarms: bounds of numbers of the log, by which a stage stops or warns."""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

WINDOW = 20
"""Steps whose mean is compared with the bounds: single batches are noisy."""


@dataclasses.dataclass
class Alarm:
    """Bounds of the mean of a number over the last `WINDOW` steps.

    A run that was resumed begins a new window. At the last step of a stage the window need not be full, so that
    repeating a command that an alarm stopped ends there again.

    Attributes:
        bounds: the least and the largest value, by name of a metric of the step; each lane's are its own.
        stops: whether a stage ends at a number that is out of bounds, or warns once.
    """

    bounds: Mapping[str, Sequence[float]]
    stops: bool = True
    _values: dict[str, collections.deque[float]] = dataclasses.field(default_factory=dict)
    _reported: set[str] = dataclasses.field(default_factory=set)

    def find_breach(self, first: int, rows: Mapping[str, np.ndarray], last: int) -> str:
        """Returns a message of the first number that leaves its bounds, or "".

        Args:
            first: the step before these.
            rows: metrics of steps by name, `[steps]`.
            last: the last step of the stage.
        """
        for name, values in rows.items():
            bounds = self.bounds.get(name.rpartition("/")[2])
            if bounds is None or name in self._reported:
                continue
            window = self._values.setdefault(name, collections.deque(maxlen=WINDOW))
            for row, value in enumerate(values):
                window.append(float(value))
                mean, is_due = math.fsum(window) / len(window), len(window) == WINDOW or first + row + 1 == last
                if is_due and not bounds[0] <= mean <= bounds[1]:
                    self._reported.add(name)
                    return f"{name} is {mean:.4g} at step {first + row + 1}, outside [{bounds[0]:g}, {bounds[1]:g}]"
        return ""
