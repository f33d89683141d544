"""Threshold: the combined score at which a process may be called abnormal, for a budget of false alarms."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.slots import Bools, Floats, SlotArrays, Slots

LEVEL = 2.7
ENTER, LEAVE, LEAVE_AT = 2, 4, 0.75
SUSPECT = 0.8
PATIENCE_ROWS = 90
"""After so many rows of alarm its rows are learnt from: most faults are over, most new loads are not."""
ACCEPT_ROWS = 180
"""An alarm that lasts so long is the new normal."""


class Threshold(SlotArrays):
    """Alarm level and hysteresis of each series."""

    name = "threshold"

    def __init__(self, budget: float, interval_s: float) -> None:
        super().__init__()
        self._budget, self._interval_s = budget, interval_s
        self.declare("alarm", (), np.bool_)
        self.declare("hits", (), np.int64)
        self.declare("quiet", (), np.int64)
        self.declare("since", (), np.int64)

    def judge(self, slots: Slots, combined: Floats, held: Bools) -> tuple[Floats, Floats, Bools]:
        """Return score (1 is the alarm level), p-value and alarm; no alarm begins where ``held``."""
        score = np.maximum(combined / LEVEL, 0.0)
        hits = np.where(score > 1.0, self["hits"][slots] + 1, np.maximum(self["hits"][slots] - 1, 0))
        hits[held] = 0
        quiet = np.where(score < LEAVE_AT, self["quiet"][slots] + 1, 0)
        alarm = self["alarm"][slots]
        enter, leave = ~alarm & (hits >= ENTER), alarm & (quiet >= LEAVE)
        alarm = (alarm | enter) & ~leave
        self["alarm"][slots] = alarm
        self["since"][slots] = np.where(alarm, self["since"][slots] + 1, 0)
        self["hits"][slots] = np.where(leave, 0, hits)
        self["quiet"][slots] = quiet
        return score, np.exp(-np.minimum(combined.clip(0.0) * 2.0, 700.0)), alarm

    def suspicious(self, slots: Slots, score: Floats) -> Bools:
        """Return where learning is slowed: a score near the level or an alarm, though not for ever."""
        since = self["since"][slots]
        suspicious: Bools = (since > 0) | (score > SUSPECT)
        return suspicious & (since < PATIENCE_ROWS)

    def lasting(self, slots: Slots) -> Bools:
        """Return which alarms have lasted so long that they are the new normal."""
        lasting: Bools = self["since"][slots] >= ACCEPT_ROWS
        return lasting

    def calm(self, slots: Slots) -> None:
        """End alarms."""
        for name in ("alarm", "hits", "quiet", "since"):
            self[name][slots] = 0
