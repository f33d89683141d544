"""Samples of many processes at one instant of the time grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osdetectord.errors import ShapeError
from osdetectord.metric import Metric


@dataclass(frozen=True, slots=True)
class Frame:
    """One row of samples for each series.

    Parameters
    ----------
    time_ns
        CLOCK_MONOTONIC at the grid point.
    interval_s
        Seconds since the previous grid point that was sampled.
    series
        Number of each series: the daemon gives every process that it watches a number of its own
        and never uses it again.  Shape ``(P,)``, uint64.
    metrics
        The columns.
    values
        Shape ``(P, len(metrics))``, each column in its metric's ``sample_unit``; NaN where missing.
    """

    time_ns: int
    interval_s: float
    series: NDArray[np.uint64]
    metrics: tuple[Metric, ...]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.series), len(self.metrics)):
            raise ShapeError(
                f"values are {self.values.shape} for {len(self.series)} series and {len(self.metrics)} metrics"
            )
