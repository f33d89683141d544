"""What the detector says of one frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osdetectord.anomaly import Episode


@dataclass(frozen=True, slots=True)
class EvidenceState:
    """Whether an evidence takes part: ``on``, ``off`` or ``absent``, and why."""

    name: str
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one frame says of its P series, in the frame's order.

    Parameters
    ----------
    series
        Shape ``(P,)``, as in the frame.
    score
        Shape ``(P,)``, in ``[0, inf)``: 1 is the alarm level, 0 while learning.
    p_value
        Shape ``(P,)``, in ``(0, 1]``: 1 while learning.
    progress
        Shape ``(P,)``: warm-up done, in ``[0, 1]``.
    alarm
        Shape ``(P,)``: whether an episode is open.
    low, high
        Shape ``(P, M)``: the expected range, in sample units; NaN while learning.
    episodes
        What began, changed or ended.
    """

    series: NDArray[np.uint64]
    score: NDArray[np.float64]
    p_value: NDArray[np.float64]
    progress: NDArray[np.float64]
    alarm: NDArray[np.bool_]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    episodes: tuple[Episode, ...]
