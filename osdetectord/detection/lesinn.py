"""LESINN: how unlike the rest a row is, from the nearest neighbours in an ensemble of random subsets."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.errors import ShapeError

SUBSET = 20
"""Rows in each subset of the ensemble, as JumpStarter takes it."""


def outlierness(distance: NDArray[np.floating[Any]], subset: int = SUBSET) -> NDArray[np.float64]:
    """Return LESINN's score: the inverse of the mean similarity to the nearest row of a random subset.

    Pang, Ting & Albrecht, "LeSiNN: Detecting Anomalies by Identifying Least Similar Nearest Neighbours", ICDMW 2015,
    with the similarity ``1 / (1 + distance)`` of JumpStarter (Ma et al., USENIX ATC 2021, section 3.2).  The mean is
    not drawn from some 50 subsets but is the expectation over all of them: the i-th least similar of N rows is the
    most similar of a subset with probability C(i-1, subset-1) / C(N, subset).  So the same rows give the same score.

    Parameters
    ----------
    distance
        Shape ``(..., N)``: from each row to the N rows of reference.
    subset
        Size of a subset; N if that is smaller.

    Returns
    -------
    NDArray
        Shape ``(...)``, at least 1 where all distances are finite; high means an outlier.

    Raises
    ------
    ShapeError
        If there is no row of reference.
    """
    count = distance.shape[-1]
    if count == 0:
        raise ShapeError("outlierness needs at least one row of reference")
    weight = _nearest_weights(count, min(subset, count))
    # ranks whose weight is lost in rounding need no sorting
    used = int(np.count_nonzero(weight > 1e-12))
    nearest = np.sort(np.partition(distance, used - 1, axis=-1)[..., :used], axis=-1)
    score: NDArray[np.float64] = 1.0 / ((1.0 / (1.0 + nearest)) @ weight[:used])
    return score


@lru_cache(maxsize=64)
def _nearest_weights(count: int, subset: int) -> NDArray[np.float64]:
    """Probability that the k-th nearest of ``count`` rows is the nearest of a random ``subset``; shape ``(count,)``."""
    weight = np.zeros(count)
    weight[0] = subset / count
    for k in range(1, count - subset + 1):
        # ratio of C(count-k-1, subset-1) to C(count-k, subset-1)
        weight[k] = weight[k - 1] * (count - k - subset + 1) / (count - k)
    weight.setflags(write=False)
    return weight


def choose_rows(
    score: NDArray[np.floating[Any]], count: int, resistance: float, noise: NDArray[np.floating[Any]]
) -> NDArray[np.bool_]:
    """Choose rows at random, an outlier the less likely the higher its score.

    Weighted sampling without replacement by the ``count`` largest keys (Efraimidis & Spirakis 2006, in its
    exponential form), the weight of a row being ``score ** -resistance``.

    Parameters
    ----------
    score
        Shape ``(..., n)``, positive and finite, as :func:`outlierness` gives it.
    count
        How many of the n rows to choose.
    resistance
        0 samples uniformly; the larger, the closer to the ``count`` most ordinary rows.
    noise
        Uniform in ``(0, 1)``, of a shape that broadcasts with ``score``: fixed noise gives a fixed choice.

    Returns
    -------
    NDArray
        Shape ``(..., n)``, True ``count`` times along the last axis.
    """
    key = -resistance * np.log(score) - np.log(-np.log(noise))
    chosen = np.zeros(key.shape, bool)
    np.put_along_axis(chosen, np.argpartition(key, -count, axis=-1)[..., -count:], True, axis=-1)
    return chosen
