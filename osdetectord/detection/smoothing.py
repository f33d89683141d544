"""Smoothing of arrays over time."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.slots import Floats


def ewma(rows: Floats, alpha: float) -> Floats:
    """Return the exponentially weighted mean along axis 1, started at the first row; shape ``(K, T, M)``."""
    out = np.empty_like(rows)
    state = rows[:, 0]
    for t in range(rows.shape[1]):
        state = state + alpha * (rows[:, t] - state)
        out[:, t] = state
    return out
