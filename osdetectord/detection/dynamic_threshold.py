"""Non-parametric dynamic threshold: the level that parts the most error mass from the fewest, largest errors."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.slots import Floats

CANDIDATES = np.arange(2.5, 12.0, 0.5)
"""Standard deviations above the mean that are tried, as Telemanom does."""
HIGHEST = 12.0
"""The level where no candidate serves."""
MAX_SEQUENCES = 5
MAX_SHARE = 0.5
"""A candidate that calls more sequences or a larger share of the rows anomalous is not one."""
LEAST_DROP = 0.13
"""Telemanom's p: an anomaly must be higher than the next lower error by this part of itself."""


def dynamic_threshold(errors: Floats, least_drop: float = LEAST_DROP) -> Floats:
    """Return the smallest next error that stands out from these past ones, by series.

    Hundman et al., "Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic Thresholding", KDD 2018,
    section 3.2, doi:10.1145/3219819.3219845.  Of ``mean + z * sd``, that level is taken whose removal of all errors
    above it most lowers mean and standard deviation of the rest, by the square of the number of sequences removed
    plus the number of rows.  Pruning (section 3.3) is part of the level: a new error must also exceed the largest
    error that is not above it by ``least_drop`` of itself, or it would be pruned.

    Parameters
    ----------
    errors
        Shape ``(K, T)``: smoothed prediction errors, non-negative, oldest first; NaN where there is none.
    least_drop
        In ``[0, 1)``; 0 prunes nothing.

    Returns
    -------
    Floats
        Shape ``(K,)``, in the unit of ``errors``; ``inf`` for a series without any error.
    """
    return np.array([_threshold(row[np.isfinite(row)], least_drop) for row in errors], np.float64)


def _threshold(errors: Floats, least_drop: float) -> float:
    count = len(errors)
    if count == 0:
        return np.inf
    mean, deviation = float(errors.mean()), float(errors.std())
    levels = mean + CANDIDATES * deviation
    rising = np.sort(errors)
    left = np.searchsorted(rising, levels)
    removed = count - left
    # a sequence has one pair of neighbours less than rows
    pairs = np.sort(np.minimum(errors[1:], errors[:-1]))
    sequences = removed - (count - 1 - np.searchsorted(pairs, levels))
    possible = (removed > 0) & (sequences <= MAX_SEQUENCES) & (removed < MAX_SHARE * count)
    level = mean + HIGHEST * deviation
    kept = int(np.searchsorted(rising, level, side="right"))
    if mean > 0 and deviation > 0 and possible.any():
        # sums about the mean keep their digits
        total, squares = np.cumsum(rising - mean), np.cumsum((rising - mean) ** 2)
        rest = np.maximum(left, 1)
        shift = total[rest - 1] / rest
        spread = np.sqrt(np.maximum(squares[rest - 1] / rest - shift**2, 0.0))
        gain = (-shift / mean + (deviation - spread) / deviation) / np.maximum(sequences**2 + removed, 1)
        gain[~possible] = -np.inf
        # of equal candidates the last
        best = len(gain) - 1 - int(gain[::-1].argmax())
        level, kept = float(levels[best]), int(left[best])
    ordinary = float(rising[kept - 1]) if kept else 0.0
    return max(level, ordinary / (1.0 - least_drop))
