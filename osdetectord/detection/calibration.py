"""Calibration: every evidence's score in units of its own history."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from osdetectord.detection.scale import NORMAL_CONSISTENCY
from osdetectord.detection.slots import Floats, SlotArrays, Slots

FLOOR = 1e-6
BELOW = 6.0
"""Spreads below what is typical at which scores are as low as any: of a process that does nothing all scores are tiny,
and twice as much of nothing is nothing."""
LEAST_SPREAD = 0.05
ROWS_PER_FACT = 10.0
"""Neighbouring scores say nearly the same: so many rows weigh like one independent one."""


class Calibration(SlotArrays):
    """Robust z of a score's logarithm against its own past, drawn towards what is typical while that is short.

    Parameters
    ----------
    typical
        For each evidence the typical median and spread of its score's logarithm in normal times, or nothing where
        the scale is not known beforehand.
    weight
        How many independent rows the typical values count for.
    rate
        How fast median and spread follow, per row.
    """

    name = "calibration"

    def __init__(self, typical: Sequence[tuple[float, float] | None], weight: float, rate: float) -> None:
        super().__init__()
        self.declare("median", (len(typical),), fill=np.nan)
        self.declare("spread", (len(typical),), fill=1.0)
        self._typical, self._weight, self._rate = tuple(typical), weight, rate
        self._floors = np.array([np.exp(known[0] - BELOW * known[1]) if known else FLOOR for known in typical])

    def learn(self, slots: Slots, evidence: int, scores: Floats) -> None:
        """Learn from past scores of one evidence, shape ``(K, T)``; NaN where there is none."""
        typical = self._typical[evidence]
        for slot, past in zip(slots, scores, strict=True):
            log = np.log(np.maximum(past[np.isfinite(past)], self._floors[evidence]))
            median, spread = typical or (np.nan, 1.0)
            if not len(log):
                self["median"][slot, evidence], self["spread"][slot, evidence] = median, spread
                continue
            facts = len(log) / ROWS_PER_FACT
            weight = self._weight if typical else 0.0
            own = float(np.median(log))
            own_spread = max(NORMAL_CONSISTENCY * float(np.median(np.abs(log - own))), LEAST_SPREAD)
            median = (facts * own + weight * median) / (facts + weight) if typical else own
            spread = float(np.exp((facts * np.log(own_spread) + weight * np.log(spread)) / (facts + weight)))
            self["median"][slot, evidence], self["spread"][slot, evidence] = median, spread

    def u(self, slots: Slots, scores: Floats) -> Floats:
        """Return calibrated scores of shape ``(K, evidences)``: about standard normal in normal times, NaN where the
        evidence has nothing to say."""
        u: Floats = (np.log(np.maximum(scores, self._floors)) - self["median"][slots]) / self["spread"][slots]
        return u

    def update(self, slots: Slots, u: Floats, rate: Floats) -> None:
        """Follow slowly: the running quantiles move by a bounded step."""
        step = self._rate * rate[:, None]
        self["median"][slots] += step * self["spread"][slots] * np.nan_to_num(np.clip(u, -1.0, 1.0))
