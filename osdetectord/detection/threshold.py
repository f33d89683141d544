"""Threshold: the combined score at which a process may be called abnormal, for a budget of false alarms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.evidence import SLOW_INTERVAL_S
from osdetectord.detection.slots import Bools, Floats, SlotArrays, Slots

DAY_S = 86400.0
SUSPECT = 0.8
"""Score from which learning is slowed already."""
YOUNG, GROWN_ROWS = 0.5, 240.0
"""A process that is hardly known must be so much louder."""
HOUR_S = 3600.0
PRIOR_BLOCKS = 240.0
"""Blocks of its own that weigh as much as what is true of most processes: an hour, at one row a second."""
LOW_START, HIGH_START = 0.25, 0.45
"""Median and 90 % point of the block maxima of most processes."""
HARDEST = 2.5
"""A process's own tail moves its level only so far up."""
TAIL = 0.215
"""Scale of the exponential tail of the alarms in normal times, where 1 is the alarm level: so much more is asked for a
budget that is smaller by a factor of e."""
SOME, ROW_TAIL = 0.5, 0.16
"""Share of the rows that have a score at all in normal times, and the scale of its exponential tail."""
CAP = 1.15
"""A block's maximum counts no more than this times the level: a fault teaches little about normal times."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What is counted in rows, for rows of a second and for rows of minutes.

    Parameters
    ----------
    level
        Combined score of an alarm, for one false alarm a day, before a process's own tail is known.
    loud, enter
        An alarm begins after so many rows with a score above ``loud``...
    drift, enough
        ... or when what its scores exceed ``drift`` by has added up to ``enough``: weak evidence must persist
        (Page 1954, doi:10.1093/biomet/41.1-2.100).
    leave
        Rows below ``LEAVE_AT`` before it ends.
    settled
        How much louder it must be when it has been known for an hour.  Until then most is new, and a process may cost
        what it is given for a day; all that it does each hour has been seen when it is over.
    easiest
        A process's own tail moves its level only so far down.
    block
        Rows whose highest score is one observation of the tail.
    patience
        After so many rows of alarm its rows are learnt from: most faults are over, most new loads are not.
    accept
        An alarm that lasts so long is the new normal.
    """

    level: float
    loud: float
    enter: int
    drift: float
    enough: float
    leave: int
    settled: float
    easiest: float
    block: int
    patience: int
    accept: int


FAST = Pace(
    level=3.0,
    loud=0.9,
    enter=3,
    drift=0.5,
    enough=3.5,
    leave=4,
    settled=0.4,
    easiest=0.9,
    block=15,
    patience=90,
    accept=180,
)
SLOW = Pace(
    level=2.6,
    loud=1.0,
    enter=3,
    drift=1.0,
    enough=np.inf,
    leave=6,
    settled=0.0,
    easiest=1.0,
    block=12,
    patience=90,
    accept=288,
)
LEAVE_AT = 0.65
"""Share of the level below which an alarm ends, and none begins."""
MOST = 1.0
"""A row adds no more than this score to the sum."""
TWICE = 2.0
"""The sum is bounded, so that it is forgotten as fast as it came."""


class Threshold(SlotArrays):
    """Alarm level and hysteresis of each series.

    The level is what fits most processes, moved by the budget along an exponential tail, and drawn towards what the
    process's own block maxima ask for as they become many (Coles 2001, section 3.3: block maxima; their upper tail
    is extrapolated from the median and the 90 % point, which a rare fault does not move).

    Parameters
    ----------
    budget
        Expected false alarms per series and day.
    interval_s
        Seconds between rows.
    """

    name = "threshold"

    def __init__(self, budget: float, interval_s: float) -> None:
        super().__init__()
        self._pace = SLOW if interval_s >= SLOW_INTERVAL_S else FAST
        blocks_a_day = DAY_S / interval_s / self._pace.block
        self._hour = HOUR_S / interval_s
        self._base = max(self._pace.easiest / 2.0, 1.0 - TAIL * float(np.log(budget)))
        # from the 90 % point, an exponential tail falls to one in blocks_a_day / budget after so many of its scales
        self._reach = max(0.0, float(np.log(0.1 * blocks_a_day / budget))) / float(np.log(5.0))
        self.declare("alarm", (), np.bool_)
        self.declare("hits", (), np.int64)
        self.declare("total")
        self.declare("quiet", (), np.int64)
        self.declare("since", (), np.int64)
        self.declare("learnt", (), np.bool_)
        self.declare("age", (), np.int64)
        self.declare("blocks", (), np.int64)
        self.declare("highest")
        self.declare("middle", fill=LOW_START)
        self.declare("high", fill=HIGH_START)

    def parts(self) -> list[SlotArrays]:
        """Return all that keeps state for it."""
        return [self]

    def level(self, slots: Slots) -> Floats:
        """Return the alarm level of each series, where 1 is that of most at a budget of one a day."""
        blocks = self["blocks"][slots]
        own = self["high"][slots] + self._reach * (self["high"][slots] - self["middle"][slots])
        weight = blocks / (blocks + PRIOR_BLOCKS)
        level = np.clip(
            (1.0 - weight) * self._base + weight * own, self._pace.easiest * self._base, HARDEST * self._base
        )
        age = self["age"][slots]
        young = 1.0 + YOUNG * np.maximum(0.0, 1.0 - age / GROWN_ROWS)
        return np.asarray(level * young * (1.0 + self._pace.settled * np.minimum(age / self._hour, 1.0)))

    def judge(self, slots: Slots, combined: Floats, telling: Floats, held: Bools) -> tuple[Floats, Floats, Bools]:
        """Return score (1 is the alarm level), p-value and alarm.

        An alarm begins by what of the combined score is ``telling``, and not where ``held``.

        The p-value is the probability, per row, of such a score in normal times.
        """
        pace = self._pace
        plain = np.maximum(combined / pace.level, 0.0)
        level = self.level(slots)
        score = plain / level
        own = telling / (pace.level * level)
        hits = np.where(own > pace.loud, self["hits"][slots] + 1, np.maximum(self["hits"][slots] - 1, 0))
        total = np.clip(self["total"][slots] + np.minimum(own, MOST) - pace.drift, 0.0, TWICE * pace.enough)
        hits[held], total[held] = 0, 0.0
        below = own < LEAVE_AT
        quiet = np.where(below, self["quiet"][slots] + 1, 0)
        alarm = self["alarm"][slots]
        enter = ~alarm & ~below & ((hits >= pace.enter) | (total >= pace.enough))
        leave = alarm & (quiet >= pace.leave)
        self["learnt"][slots] = leave & (self["since"][slots] >= self._patience(slots))
        alarm = (alarm | enter) & ~leave
        self["alarm"][slots] = alarm
        self["since"][slots] = np.where(alarm, self["since"][slots] + 1, 0)
        self["hits"][slots], self["total"][slots] = np.where(leave, 0, hits), np.where(leave, 0.0, total)
        self["quiet"][slots] = quiet
        self["age"][slots] += 1
        self._observe(slots[~alarm], np.minimum(plain, CAP * level)[~alarm])
        p_value = np.where(score > 0.0, SOME * np.exp(-np.minimum(score / ROW_TAIL, 700.0)), 1.0)
        return score, p_value, alarm

    def _observe(self, slots: Slots, plain: Floats) -> None:
        """Take the quiet rows' scores into the block maxima, and follow their two quantiles."""
        self["highest"][slots] = np.maximum(self["highest"][slots], plain)
        ended = slots[self["age"][slots] % self._pace.block == 0]
        highest = self["highest"][ended]
        step = 0.5 / np.minimum(self["blocks"][ended] + 8.0, PRIOR_BLOCKS)
        middle, high = self["middle"][ended], self["high"][ended]
        middle = middle + step * np.where(highest > middle, 0.5, -0.5)
        high = high + step * np.where(highest > high, 0.9, -0.1)
        self["middle"][ended] = np.maximum(middle, 0.0)
        self["high"][ended] = np.maximum(high, middle + 0.02)
        self["blocks"][ended] += 1
        self["highest"][ended] = 0.0

    def suspicious(self, slots: Slots, score: Floats) -> Bools:
        """Return where learning is slowed: a score near the level or an alarm, though not for ever."""
        since = self["since"][slots]
        return np.asarray(((since > 0) | (score > SUSPECT)) & (since < self._patience(slots)))

    def _patience(self, slots: Slots) -> NDArray[np.int64]:
        """Return after how many rows of alarm rows are learnt from: a process hardly known is believed sooner."""
        return np.clip(self["age"][slots] // 3, self._pace.patience // 4, self._pace.patience)

    def lasting(self, slots: Slots) -> Bools:
        """Return which alarms have lasted so long that they are the new normal."""
        return np.asarray(self["since"][slots] >= self._pace.accept)

    def learnt(self, slots: Slots) -> Bools:
        """Return which alarms ended with the last row, after their rows had been learnt from."""
        return np.asarray(self["learnt"][slots])

    def grow(self, slots: Slots) -> None:
        """Count a row of life before there is anything to judge."""
        self["age"][slots] += 1

    def age(self, slot: int) -> int:
        """Return for how many rows a series has been known."""
        return int(self["age"][slot])

    def calm(self, slots: Slots) -> None:
        """End alarms."""
        for name in ("alarm", "hits", "total", "quiet", "since", "learnt"):
            self[name][slots] = 0
