"""The order of examples: pure functions of a seed and the number of a batch.

A split is sampled from one endless sequence, a fresh permutation of it per epoch. Each member of a mixture is sampled
from an endless sequence of its own, and its rows of every batch are in proportion to its weight. Texts may be sorted by
length within pools of batches, so that the texts of a batch need little padding.
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


def _sequence(seed: int, examples: int, rows: tuple[int, int], member: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions and views of rows `start` to `stop` of the endless sequence of a split."""
    start, stop = rows
    position, view = np.empty(stop - start, np.int32), np.empty(stop - start, np.int32)
    done = 0
    while done < len(position):
        epoch, first = divmod(start + done, examples)
        part = _permutation(seed, examples, epoch, member)[first : first + len(position) - done]
        position[done : done + len(part)], view[done : done + len(part)] = part, epoch
        done += len(part)
    return position, view


def sample_positions(seed: int, examples: int, batch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the positions and views, int32 `[batch]` each, of batch number `step` of a split of `examples`."""
    return _sequence(seed, examples, (step * batch, (step + 1) * batch))


def quotas(weights: Sequence[float], rows: int) -> np.ndarray:
    """Returns the number of rows of each member of a mixture among the first `rows` of a run, int64 `[members]`.

    Member m's row number j is due at (j + 1/2) / fraction_m, and the rows that are due first come first: the divisor
    method of Webster. Counts only grow with `rows`, and never drift away from `rows * fraction_m`.
    """
    fraction = np.asarray(weights, np.float64) / np.sum(weights)
    # These are due before `rows - len(fraction)`, when at most `rows` are; half a row keeps rounding errors away.
    counts = np.floor(max(0, rows - len(fraction)) * fraction).astype(np.int64)
    while counts.sum() < rows:
        counts[np.argmin((counts + 0.5) / fraction)] += 1
    return counts


def sample_indices(split: Split, seed: int, batch: int, step: int, *, pool: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices and views, int32 `[batch]` each, of batch number `step` of any split, or of a mixture.

    Args:
        split: the training split.
        seed: of the order.
        batch: the number of rows of a batch.
        step: the number of the batch.
        pool: number of batches whose texts are sorted by length together; 0 for none.
    """
    if pool > 1:
        return _sample_from_pool(split, seed, batch, step, pool=pool)
    if not isinstance(split, Mixture):
        position, view = sample_positions(seed, len(split), batch, step)
        return split.index(position), view
    before, after = (quotas(split.weights, rows) for rows in (step * batch, (step + 1) * batch))
    positions, views, first = [], [], 0
    for member, examples in enumerate(split.lengths):
        position, view = _sequence(seed, examples, (int(before[member]), int(after[member])), member)
        positions, views, first = [*positions, first + position], [*views, view], first + examples
    # Mixing transforms pair the rows of a batch by position, so members must not have positions of their own.
    order = np.random.default_rng([seed, step, len(positions)]).permutation(batch)
    return split.index(np.concatenate(positions)[order]), np.concatenate(views)[order]


def _sample_from_pool(split: Split, seed: int, batch: int, step: int, *, pool: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the batch of a step from the sorted texts of `pool` batches, whose order is random."""
    number, place = divmod(step, pool)
    index, view = sample_indices(split, seed, pool * batch, number)
    counts = split.base.token_counts
    assert counts is not None
    sorted_rows = np.argsort(counts[index], kind="stable").reshape(pool, batch)
    rows = sorted_rows[np.random.default_rng([seed, number, pool]).permutation(pool)[place]]
    return index[rows], view[rows]
