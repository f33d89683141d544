"""Fusion: one number from all evidences, and what it would take to raise an alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from osdetectord.detection.slots import Floats

WEIGHT = {"memory": 1.0, "sparse": 0.6, "window_pca": 0.3}
"""How much each evidence has to say; one that is not here has little."""
WEIGHT_SLOW = {"innovation": 1.0, "seasonal": 1.0}
"""... where a row is minutes long: a service is then never twice in the same state, but has its days."""
ALARM_SLOW, EASE_SLOW = {"innovation": 1.0, "memory": 0.3}, 0.75
"""... which say how unusual a row is, but an alarm rests on what changes faster than it ever did; so much less."""
LITTLE = 0.05
LOW, HIGH = -0.5, 30.0
MEMORY = "memory"
ALONE, ALONE_HIGH = "load_drop", 8.0
"""An evidence that has a say only where it is louder than all others together, and then weighs as much as they do."""
ADDED = "extremes"
"""An evidence that comes on top of what the others say..."""
ADDS, ADDS_SLOW = 0.5, 1.6
"""... so many times."""
EASE_ADDED = 0.3
"""Where rows are minutes long it says most: the others count for so much in an alarm beside it."""


class Fusion:
    """Weighted mean of calibrated scores, which have shape ``(K, evidences)``.

    An evidence whose score is NaN has nothing to say.
    """

    def __init__(self, names: Sequence[str], slow: bool = False) -> None:
        self._memory = names.index(MEMORY) if MEMORY in names and not slow else None
        self._alone = names.index(ALONE) if ALONE in names else None
        self._added = names.index(ADDED) if ADDED in names else None
        self._adds = ADDS_SLOW if slow else ADDS
        self._ease = EASE_SLOW if self._added is None else EASE_ADDED
        self._weights = _weights(names, WEIGHT_SLOW if slow else WEIGHT, LITTLE)
        alarm = _weights(names, ALARM_SLOW, 0.0)
        self._alarm = alarm if slow and alarm.any() else None

    def combine(self, u: Floats) -> tuple[Floats, Floats]:
        """Return two arrays of shape ``(K,)``: the combined score, 0 where no evidence speaks, and what of it counts
        for an alarm.

        A job that was seen before is loud for those that look at the last rows or minutes.  Where the process was in
        such a state before, that is no reason for an alarm: what goes beyond the memory's word does not count.
        """
        combined = _mean(u, self._weights)
        more = 0.0 if self._added is None else self._adds * np.maximum(np.nan_to_num(u[:, self._added]), 0.0)
        combined = combined + more
        telling = combined
        if self._alarm is not None:
            telling = self._ease * _mean(u, self._alarm) + more
        elif self._memory is not None:
            # fmin: a memory that is silent yet excuses nothing
            telling = np.fmin(combined, np.maximum(u[:, self._memory], 0.0))
        if self._alone is None:
            return combined, telling
        lift = np.maximum(0.5 * (np.minimum(np.nan_to_num(u[:, self._alone]), ALONE_HIGH) - combined), 0.0)
        return combined + lift, telling + lift


def _weights(names: Sequence[str], weight: Mapping[str, float], rest: float) -> Floats:
    weights = np.array([0.0 if name in (ALONE, ADDED) else weight.get(name, rest) for name in names])
    return np.asarray(weights / max(float(weights.sum()), 1e-12))


def _mean(u: Floats, weights: Floats) -> Floats:
    speaks = np.isfinite(u)
    weights = np.where(speaks, weights, 0.0)
    said = np.where(speaks, np.clip(u, LOW, HIGH), 0.0)
    mean: Floats = (said * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-12)
    return mean
