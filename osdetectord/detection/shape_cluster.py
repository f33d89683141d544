"""Clusters of metrics whose series have the same shape, whatever their scale and however shifted in time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

THRESHOLD = 0.3
"""Two groups of metrics are one if the mean shape-based distance between them is below this."""


def shape_distance(series: NDArray[np.floating[Any]], max_shift: int | None = None) -> NDArray[np.float64]:
    """Return the shape-based distance of each pair: 1 minus the largest normalised cross-correlation.

    Paparrizos & Gravano, "k-Shape", SIGMOD 2015, section 3.1, doi:10.1145/2723372.2737793.

    Parameters
    ----------
    series
        Shape ``(T, M)``, a metric a column; each is brought to mean 0 here.
    max_shift
        Largest shift in rows that is tried; all by default.

    Returns
    -------
    NDArray
        Shape ``(M, M)``, symmetric, in ``[0, 2]``, 0 on the diagonal; 1 from a constant metric to any other.
    """
    length, metrics = series.shape
    shift = length - 1 if max_shift is None else min(max_shift, length - 1)
    centred = np.asarray(series - series.mean(axis=0), np.float64)
    size = np.linalg.norm(centred, axis=0)
    live = size > 1e-9 * np.maximum(np.abs(series).max(axis=0), 1e-300)
    unit = np.divide(centred, size, out=np.zeros_like(centred), where=live)
    spectrum = np.fft.rfft(unit, 2 * length, axis=0)
    correlation = np.full((metrics, metrics), -1.0)
    for i in range(metrics):
        lagged = np.fft.irfft(spectrum * spectrum[:, i : i + 1].conj(), 2 * length, axis=0)
        near = np.concatenate([lagged[: shift + 1], lagged[2 * length - shift :]])
        correlation[i] = near.max(axis=0)
    correlation[~live] = correlation[:, ~live] = 0.0
    distance: NDArray[np.float64] = np.clip(1.0 - (correlation + correlation.T) / 2, 0.0, 2.0)
    np.fill_diagonal(distance, 0.0)
    return distance


def cluster(distance: NDArray[np.floating[Any]], threshold: float = THRESHOLD) -> NDArray[np.intp]:
    """Group by average linkage and cut where the mean distance between groups reaches ``threshold``.

    Parameters
    ----------
    distance
        Shape ``(M, M)``, symmetric.
    threshold
        In the unit of ``distance``.

    Returns
    -------
    NDArray
        Shape ``(M,)``: group of each metric, numbered from 0 in the order of each group's first metric.
    """
    between = np.array(distance, np.float64)
    count = len(between)
    np.fill_diagonal(between, np.inf)
    size = np.ones(count)
    group = np.arange(count)
    while count and between.min() < threshold:
        flat = int(between.argmin())
        keep, gone = sorted(divmod(flat, len(between)))
        # Lance & Williams' update for average linkage
        merged = (size[keep] * between[keep] + size[gone] * between[gone]) / (size[keep] + size[gone])
        between[keep] = between[:, keep] = merged
        between[keep, keep] = np.inf
        between[gone] = between[:, gone] = np.inf
        size[keep] += size[gone]
        group[group == gone] = keep
    number: NDArray[np.intp] = np.unique(group, return_inverse=True)[1]
    return number
