"""Spot threshold: the alarm level of each series where SPOT puts it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from osdetectord.detection.slots import Bools, Floats, SlotArrays, Slots
from osdetectord.detection.spot import Spot
from osdetectord.detection.threshold import DAY_S, HARDEST, Threshold

DEPTH = 60
"""Rows of DSPOT's moving average: long against a fault's beginning, short against a day."""
MOST_RISK = 0.1
"""Risk per row beyond which there is no tail to speak of."""


class SpotThreshold(Threshold):
    """As its base, with a level from the tail of the series' own scores instead of its block maxima.

    An alarm begins with the first row above the level, as the paper has it: a false alarm is then one excess, and the
    budget, divided by the rows of a day, is the risk per row.  The level is bounded as that of the block maxima is,
    because the scores are neither independent nor free of faults.  Until the initial batch is full, the level is that
    of most processes.

    Parameters
    ----------
    budget
        Expected false alarms per series and day.
    interval_s
        Seconds between rows.
    drifts
        Whether the scores' moving average is subtracted first (DSPOT): their level may then drift.
    """

    def __init__(self, budget: float, interval_s: float, drifts: bool) -> None:
        super().__init__(budget, interval_s)
        self._pace = replace(self._pace, loud=1.0, enter=1, enough=np.inf)
        self._spot = Spot(min(budget * interval_s / DAY_S, MOST_RISK), DEPTH if drifts else 0)

    def parts(self) -> list[SlotArrays]:
        return [self, self._spot]

    def level(self, slots: Slots) -> Floats:
        """Return the alarm level of each series, where 1 is that of most at a budget of one a day."""
        own = np.clip(self._spot.threshold(slots), self._pace.easiest * self._base, HARDEST * self._base)
        return np.where(np.isnan(own), super().level(slots), own)

    def judge(self, slots: Slots, combined: Floats, telling: Floats, held: Bools) -> tuple[Floats, Floats, Bools]:
        """As its base; an alarm that begins teaches that there was one more score above the level."""
        found = super().judge(slots, combined, telling, held)
        began = slots[self["since"][slots] == 1]
        self._spot.learn(began, self.level(began), np.ones(len(began), bool))
        return found

    def _observe(self, slots: Slots, plain: Floats) -> None:
        usual = plain <= self.level(slots)
        self._spot.learn(slots[usual], plain[usual], np.zeros(int(usual.sum()), bool))
