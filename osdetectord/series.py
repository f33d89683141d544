"""From a counter's totals to rates, and the grid of instants at which samples are taken."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.errors import InvalidArgument, ShapeError
from osdetectord.metric import Kind, Metric


def rows_of(keys: NDArray[Any], wanted: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Match keys: positions in ``wanted`` that are in ``keys``, and where in ``keys`` they are.

    ``keys`` has each key at most once; neither needs to be sorted.
    """
    if not len(keys) or not len(wanted):
        return np.zeros(0, dtype=np.intp), np.zeros(0, dtype=np.intp)
    order = np.argsort(keys, kind="stable")
    at = np.searchsorted(keys, wanted, sorter=order)
    at = order[np.minimum(at, len(keys) - 1)]
    found = np.flatnonzero(keys[at] == wanted)
    return found, at[found]


class Rates:
    """Turns readings into samples: a counter into its rise per second, a gauge into itself.

    Parameters
    ----------
    metrics
        The columns.
    differences
        Those whose reading is the difference of two totals that are not read at quite the same moment: a fall
        of these is no loss, but no rise.
    """

    def __init__(self, metrics: Sequence[Metric], differences: Collection[Metric] = ()) -> None:
        self._counter = np.array([metric.kind is Kind.COUNTER for metric in metrics], dtype=bool)
        self._difference = np.array([metric in differences for metric in metrics], dtype=bool)
        self._series = np.zeros(0, dtype=np.uint64)
        self._readings = np.zeros((0, len(metrics)))
        self._time_ns = 0

    def sample(self, time_ns: int, series: NDArray[np.uint64], readings: NDArray[np.float64]) -> NDArray[np.float64]:
        """Samples at ``time_ns`` against the readings of the call before.

        Parameters
        ----------
        time_ns
            CLOCK_MONOTONIC of the readings, later than that of the call before.
        series
            Number of each row, each once, shape ``(P,)``.
        readings
            Totals and levels, shape ``(P, M)``; NaN where missing.

        Returns
        -------
        ndarray
            Shape ``(P, M)``.  NaN where a counter has no reading before this one, or fell.

        Raises
        ------
        ShapeError
            If the shapes do not fit.
        """
        if readings.shape != (len(series), len(self._counter)):
            raise ShapeError(f"readings are {readings.shape} for {len(series)} series and {len(self._counter)} metrics")
        out = readings.copy()
        out[:, self._counter] = np.nan
        elapsed_s = (time_ns - self._time_ns) * 1e-9
        found, before = rows_of(self._series, series)
        if len(found) and elapsed_s > 0:
            earlier = self._readings[before]
            readings = readings.copy()
            # fmax: a total that was missing is no bound; one that is missing now stays so
            highest = np.where(np.isnan(readings[found]), np.nan, np.fmax(readings[found], earlier))
            readings[found] = np.where(self._difference, highest, readings[found])
            rise = readings[found] - earlier
            rate = np.where(rise >= 0, rise, np.nan) / elapsed_s
            block = out[found]
            block[:, self._counter] = rate[:, self._counter]
            out[found] = block
        self._series, self._readings, self._time_ns = series.copy(), readings.copy(), time_ns
        return out


class Grid:
    """Instants at whole multiples of an interval, so that series of different targets line up.

    Parameters
    ----------
    interval_ns
        Distance, at least 1 ms.

    Raises
    ------
    InvalidArgument
        If it is smaller.
    """

    def __init__(self, interval_ns: int) -> None:
        if interval_ns < 1_000_000:
            raise InvalidArgument(f"an interval of {interval_ns} ns is below 1 ms")
        self.interval_ns = interval_ns

    def next_after(self, now_ns: int) -> int:
        """The first instant after ``now_ns``: one that was overslept is left out, not made up for."""
        return (now_ns // self.interval_ns + 1) * self.interval_ns
