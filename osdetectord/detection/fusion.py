"""Fusion: one number from all evidences, and what it would take to raise an alarm."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from osdetectord.detection.slots import Floats

WEIGHT = {"memory": 1.0, "sparse": 1.0}
"""How much each evidence has to say; one that is not here has little."""
LITTLE = 0.1
LOW, HIGH = -0.5, 30.0


class Fusion:
    """Weighted mean of calibrated scores."""

    def __init__(self, names: Sequence[str]) -> None:
        weights = np.array([WEIGHT.get(name, LITTLE) for name in names])
        self._weights = weights / weights.sum()

    def combine(self, u: Floats) -> Floats:
        """Return the combined score, shape ``(K,)``, of calibrated scores of shape ``(K, evidences)``."""
        combined: Floats = np.clip(u, LOW, HIGH) @ self._weights
        return combined
