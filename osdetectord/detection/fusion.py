"""Fusion: one number from all evidences, and what it would take to raise an alarm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from osdetectord.detection.slots import Floats

WEIGHT = {"memory": 1.0, "sparse": 0.6, "window_pca": 0.3}
"""How much each evidence has to say; one that is not here has little."""
WEIGHT_SLOW = {"innovation": 1.0, "seasonal": 1.0}
"""... where a row is minutes long: a service is then never twice in the same state, but has its days."""
LITTLE = 0.05
LOW, HIGH = -0.5, 30.0
MEMORY = "memory"


class Fusion:
    """Weighted mean of calibrated scores."""

    def __init__(self, names: Sequence[str], slow: bool = False) -> None:
        weight = WEIGHT_SLOW if slow else WEIGHT
        self._memory = names.index(MEMORY) if MEMORY in names and not slow else None
        weights = np.array([weight.get(name, LITTLE) for name in names])
        self._weights = weights / weights.sum()

    def combine(self, u: Floats) -> Floats:
        """Return the combined score, shape ``(K,)``, of calibrated scores of shape ``(K, evidences)``.

        An evidence whose score is NaN has nothing to say; 0 where none has.
        """
        speaks = np.isfinite(u)
        weights = np.where(speaks, self._weights, 0.0)
        said = np.where(speaks, np.clip(u, LOW, HIGH), 0.0)
        combined: Floats = (said * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12)
        return combined

    def known(self, u: Floats, combined: Floats) -> Floats:
        """Return shape ``(K,)``, how far the combined score goes beyond what the memory alone says.

        A job that was seen before is loud for those that look at the last rows or minutes.  Where the process was in
        such a state before, that is no reason for an alarm.
        """
        if self._memory is None:
            return np.zeros(len(u))
        beyond = combined - np.maximum(u[:, self._memory], 0.0)
        return np.where(np.isfinite(beyond), np.maximum(beyond, 0.0), 0.0)
