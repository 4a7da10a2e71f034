"""In which order examples are dealt: pure functions of a seed and the number of a batch.

A split is dealt from one endless sequence, a fresh permutation of it per epoch. Of a mixture each member is dealt from
an endless sequence of its own, in every batch as many rows as its weight asks for.
"""

import functools
from collections.abc import Sequence

import numpy as np

from jaxdistill.data.dataset import Split
from jaxdistill.data.mixture import Mixture


@functools.lru_cache(maxsize=16)
def _permutation(seed: int, examples: int, epoch: int, member: int) -> np.ndarray:
    key = [seed, epoch, member] if member else [seed, epoch]
    return np.random.default_rng(key).permutation(examples).astype(np.int32)


def _sequence(seed: int, examples: int, start: int, stop: int, member: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places and views from `start` to `stop` in the endless sequence of a split."""
    place, view = np.empty(stop - start, np.int32), np.empty(stop - start, np.int32)
    done = 0
    while done < len(place):
        epoch, first = divmod(start + done, examples)
        part = _permutation(seed, examples, epoch, member)[first : first + len(place) - done]
        place[done : done + len(part)], view[done : done + len(part)] = part, epoch
        done += len(part)
    return place, view


def deal(seed: int, examples: int, batch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the places and views, int32 `[batch]` each, of batch number `step` of a split of so many examples."""
    return _sequence(seed, examples, step * batch, (step + 1) * batch)


def turns(weights: Sequence[float], rows: int) -> np.ndarray:
    """Returns how many of the first `rows` rows of a run are of each member of a mixture, int64 `[members]`.

    Member m's row number j is due at (j + 1/2) / share_m, and the rows that are due first come first: the divisor
    method of Webster. Counts only grow with `rows`, and never drift away from `rows * share_m`.
    """
    share = np.asarray(weights, np.float64) / np.sum(weights)
    # These are due before `rows - len(share)`, by when at most `rows` are; half a row keeps rounding errors away.
    counts = np.floor(max(0, rows - len(share)) * share).astype(np.int64)
    while counts.sum() < rows:
        counts[np.argmin((counts + 0.5) / share)] += 1
    return counts


def dealt(split: Split, seed: int, batch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices and views, int32 `[batch]` each, of batch number `step` of any split, or of a mixture."""
    if not isinstance(split, Mixture):
        place, view = deal(seed, len(split), batch, step)
        return split.index(place), view
    before, after = (turns(split.weights, rows) for rows in (step * batch, (step + 1) * batch))
    places, views, first = [], [], 0
    for member, examples in enumerate(split.lengths):
        place, view = _sequence(seed, examples, int(before[member]), int(after[member]), member)
        places, views, first = [*places, first + place], [*views, view], first + examples
    # Mixing transforms pair the rows of a batch by their places, so members must not have places of their own.
    order = np.random.default_rng([seed, step, len(places)]).permutation(batch)
    return split.index(np.concatenate(places)[order]), np.concatenate(views)[order]
