"""Calibration: every evidence's score in units of its own history."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.scale import NORMAL_CONSISTENCY
from osdetectord.detection.slots import Floats, SlotArrays, Slots

FLOOR = 1e-6
LEAST_SPREAD = 0.05


class Calibration(SlotArrays):
    """Robust z of a score's logarithm against its running median and MAD, for each evidence of each series."""

    name = "calibration"

    def __init__(self, evidences: int, rate: float) -> None:
        super().__init__()
        self.declare("median", (evidences,))
        self.declare("spread", (evidences,), fill=1.0)
        self._rate = rate

    def learn(self, slots: Slots, evidence: int, scores: Floats) -> None:
        """Learn from past scores of one evidence, shape ``(K, T)``; NaN where there is none."""
        log = np.log(np.maximum(scores, FLOOR))
        known = ~np.isnan(scores).all(axis=1)
        if known.any():
            median = np.nanmedian(log[known], axis=1)
            mad = np.nanmedian(np.abs(log[known] - median[:, None]), axis=1)
            self["median"][slots[known], evidence] = median
            self["spread"][slots[known], evidence] = np.maximum(NORMAL_CONSISTENCY * mad, LEAST_SPREAD)

    def u(self, slots: Slots, scores: Floats) -> Floats:
        """Return calibrated scores of shape ``(K, evidences)``: about standard normal in normal times."""
        return (np.log(np.maximum(scores, FLOOR)) - self["median"][slots]) / self["spread"][slots]

    def update(self, slots: Slots, u: Floats, rate: Floats) -> None:
        """Follow slowly: the running quantiles move by a bounded step."""
        step = self._rate * rate[:, None]
        spread = self["spread"][slots]
        self["median"][slots] += step * spread * np.clip(u, -1.0, 1.0) * 2.0
        grow = np.where(np.abs(u) > 1.0, 0.5, -0.23)
        self["spread"][slots] = np.maximum(spread * (1.0 + step * grow), LEAST_SPREAD)
