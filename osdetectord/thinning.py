"""Thinning: rows of samples made fewer, with their means and their extremes, so that a spike outlives its second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
"""Shape ``(rows, parts, metrics)``.  One part: samples.  Two: lowest and highest that was expected.  Three: mean,
lowest and highest of the samples that a row stands for."""
SAMPLE, BAND, SUMMARY = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Step:
    """A coarseness: rows of ``step_s`` seconds, made of finer ones (0: of samples as they were taken)."""

    of_s: int
    step_s: int


STEPS = (Step(0, 10), Step(10, 60))


def thinned(rows: Rows, weights: NDArray[np.float64], starts: NDArray[np.intp]) -> Rows:
    """Return one row for each run of rows, shape ``(len(starts), parts, metrics)``; samples become summaries.

    Parameters
    ----------
    rows
        NaN where missing.
    weights
        How long each row stands for, any unit.
    starts
        Index of the first row of each run, rising, the first one 0.
    """
    parts = rows.shape[1]
    if parts == BAND:
        return np.stack([_mean(rows[:, 0], weights, starts), _mean(rows[:, 1], weights, starts)], axis=1)
    lowest = np.fmin.reduceat(rows[:, 1 % parts], starts, axis=0)
    highest = np.fmax.reduceat(rows[:, 2 % parts], starts, axis=0)
    return np.stack([_mean(rows[:, 0], weights, starts), lowest, highest], axis=1)


def runs(keys: NDArray[np.int64]) -> NDArray[np.intp]:
    """Return the index at which each run of equal keys begins."""
    return np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1)).astype(np.intp)


def at_most(times_us: NDArray[np.int64], points: int, span: tuple[int, int]) -> NDArray[np.intp]:
    """Return where the runs of equal parts of the ``span`` begin, so that there are no more than ``points``.

    Parameters
    ----------
    times_us
        Rising, within ``span``, at least one.
    span
        First and last instant.  The newest run ends with the last.
    """
    width = max(1, -(-(span[1] - span[0] + 1) // points))
    return runs(-((span[1] - times_us) // width))


def _mean(values: NDArray[np.float32], weights: NDArray[np.float64], starts: NDArray[np.intp]) -> NDArray[np.float32]:
    known = np.isfinite(values) * weights[:, None]
    count = np.add.reduceat(known, starts, axis=0)
    total = np.add.reduceat(np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0) * known, starts, axis=0)
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0).astype(np.float32)
