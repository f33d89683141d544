"""Memory: distance to the nearest states that the process itself was in before."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.evidence import Evidence, Options, Past, Rows, Setup
from osdetectord.detection.packed import Packed, pack, products, unpack
from osdetectord.detection.pieces import nth_smallest
from osdetectord.detection.scale import CLIP
from osdetectord.detection.slots import Floats, Slots
from osdetectord.detection.smoothing import ewma

NEIGHBOUR = 3
"""The third nearest: two stray states in the past do not excuse a third."""
LAG_ROWS = 20
"""The near past is no excuse: a fault would excuse itself."""
LEARN_AT = 0.5
"""Rows learnt more slowly than this (an alarm is on) do not become memory."""
BRIEF_ROWS = 15
"""... unless it was over so soon: a snapshot, a checkpoint, a job by the clock.  It is news only the first time."""
EXCUSED_ROWS = 10
"""It excuses no more than its like: what stays so for longer is held against the rest of the memory."""
EXCUSED = 0.25
"""A brief state excuses where it is nearer than half the distance to the rest."""
BRIEF_STATES = 64
"""Such states have a part of the memory for themselves, or else the daily routine would push them out."""
NOTHING, ROUTINE, BRIEF, KNOWN = 0, 1, 2, 3
"""What a waiting state will be remembered as.  One that a brief state excused is known: as long as it is brief it has
its place already, and it must not become routine, or else a fault that came back would excuse itself for ever."""


class Memory(Evidence):
    """Root mean square distance of the smoothed state to its third nearest remembered one.

    A fixed number of states spans a growing past: when the memory is full every other state is dropped and only
    every second row is kept from then on, until it spans ``memory_rows``; then the oldest makes room.
    """

    name = "memory"
    typical = (-0.75, 0.3)
    options: ClassVar[Options] = {"smoothing": (0.5, 0.01, 1.0), "states": (256, 32, 4096)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._alpha = setup.options["smoothing"]
        self._size = int(setup.options["states"]) * (4 if setup.slow else 1)
        self._lag = 144 if setup.slow else LAG_ROWS
        self._widest = max(1, round(setup.memory_rows / self._size))
        self.declare("smooth", (setup.metrics,))
        self.declare("waiting", (self._lag, setup.metrics), np.int16)
        self.declare("worth", (self._lag,), np.int8)
        self.declare("excursion", (), np.int64)
        self.declare("waited", (), np.int64)
        self.declare("states", (self._size, setup.metrics), np.int16)
        self._brief = self.declare_for_some("brief", (BRIEF_STATES, setup.metrics), np.int16)
        self.declare("squares", (self._size + BRIEF_STATES,), np.float32, np.inf)
        self.declare("briefs", (), np.int64)
        self.declare("excused", (), np.int64)
        self.declare("live", fill=1.0)
        self.declare("held", (), np.int64)
        self.declare("oldest", (), np.int64)
        self.declare("stride", (), np.int64, 1)
        self._asked: tuple[Rows, Floats, Floats] | None = None

    def learn(self, past: Past) -> None:
        smooth = ewma(past.z, self._alpha)
        self.clear(past.slots)
        self["smooth"][past.slots] = smooth[:, -1]
        self["live"][past.slots] = past.live()
        for t in range(len(past)):
            self._remember(past.slots, smooth[:, t], np.full(len(past.slots), ROUTINE))

    def _smoothed(self, rows: Rows) -> Floats:
        smooth = np.where(rows.fresh[:, None], rows.z, self["smooth"][rows.slots])
        return np.asarray(smooth + self._alpha * (rows.z - smooth))

    def _squared(self, slots: Slots, state: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return squared distances to all states of each series, ``(K, states)``, infinite where none is held; the
        brief ones come last."""
        distance: NDArray[np.float32] = self["squares"][slots]
        distance[:, : self._size] -= products(self["states"], slots, 2.0 * state, CLIP)
        some = self._brief.has(slots)
        if some.any():
            rows, at = self._brief.rows, self._brief.at(slots[some])
            distance[some, self._size :] -= products(rows, at, 2.0 * state[some], CLIP)
        distance += (state * state).sum(axis=1)[:, None]
        return distance

    def score(self, rows: Rows) -> Floats:
        if not len(rows):
            return np.zeros(0)
        routine, any_state = self._nearest(rows)
        nearest = np.where(self["excused"][rows.slots] > EXCUSED_ROWS, routine, any_state)
        nearest[self["held"][rows.slots] < NEIGHBOUR] = 0.0
        return np.asarray(np.sqrt(np.maximum(nearest, 0.0) / self["live"][rows.slots]))

    def _nearest(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return squared distances to the routine's third nearest state, and to that or a nearer brief one."""
        if self._asked is None or self._asked[0] is not rows:
            distance = self._squared(rows.slots, self._smoothed(rows).astype(np.float32))
            third = nth_smallest(distance[:, : self._size], NEIGHBOUR).astype(np.float64)
            # a job passes through its states in a few rows: none of them has neighbours
            self._asked = (rows, third, np.minimum(third, distance[:, self._size :].min(axis=1)))
        return self._asked[1], self._asked[2]

    def update(self, rows: Rows, rate: Floats) -> None:
        routine, any_state = self._nearest(rows)
        excused = (any_state < EXCUSED * routine) & np.isfinite(any_state)
        self["excused"][rows.slots] = np.where(excused, self["excused"][rows.slots] + 1, 0)
        self._asked = None
        smooth = self._smoothed(rows)
        self["smooth"][rows.slots] = smooth
        self._remember(rows.slots, smooth, np.where(excused, KNOWN, np.where(rate >= LEARN_AT, ROUTINE, NOTHING)))

    def _remember(self, slots: Slots, smooth: Floats, now: NDArray[np.int_]) -> None:
        """Let the oldest waiting state become memory, and this one wait, to be remembered as what it is ``now``."""
        waiting, worth, waited = self["waiting"], self["worth"], self["waited"][slots]
        good = now == ROUTINE
        self._end_excursions(slots, good)
        place = waited % self._lag
        due = (waited >= self._lag) & good
        routine = due & (waited % self["stride"][slots] == 0) & (worth[slots, place] == ROUTINE)
        self._insert(slots[routine], waiting[slots[routine], place[routine]])
        brief = due & (worth[slots, place] == BRIEF)
        self._insert_brief(slots[brief], waiting[slots[brief], place[brief]])
        waiting[slots, place] = pack(smooth, CLIP)
        worth[slots, place] = now
        self["waited"][slots] += 1

    def _end_excursions(self, slots: Slots, good: NDArray[np.bool_]) -> None:
        """Find what was abnormal only briefly and is worth remembering after all."""
        lasted = self["excursion"][slots]
        over = slots[good & (lasted > 0) & (lasted <= min(BRIEF_ROWS, self._lag - 1))]
        worth = self["worth"][over]
        self["worth"][over] = np.where(worth == NOTHING, BRIEF, worth)
        self["excursion"][slots] = np.where(good, 0, lasted + 1)

    def _insert_brief(self, slots: Slots, state: Packed) -> None:
        at = self["briefs"][slots] % BRIEF_STATES
        place = self._brief.lend(slots)
        self._brief.rows[place, at] = state
        self["squares"][slots, self._size + at] = (unpack(state, CLIP) ** 2).sum(axis=1)
        self["briefs"][slots] += 1

    def _insert(self, slots: Slots, state: Packed) -> None:
        states, squares, held, oldest = self["states"], self["squares"], self["held"], self["oldest"]
        full = held[slots] == self._size
        for slot in slots[full & (self["stride"][slots] < self._widest)]:
            half = (self._size + 1) // 2
            states[slot, :half], squares[slot, :half] = states[slot, ::2], squares[slot, : self._size : 2]
            states[slot, half:], squares[slot, half : self._size] = 0, np.inf
            held[slot] = half
            self["stride"][slot] *= 2
        full = held[slots] == self._size
        at = np.where(full, oldest[slots], held[slots])
        states[slots, at] = state
        squares[slots, at] = (unpack(state, CLIP) ** 2).sum(axis=1)
        oldest[slots[full]] = (at[full] + 1) % self._size
        held[slots[~full]] += 1

    def blame(self, rows: Rows) -> Floats:
        state = self._smoothed(rows)
        nearest = self._squared(rows.slots, state.astype(np.float32)).argmin(axis=1)
        brief = nearest >= self._size
        like = self["states"][rows.slots, np.where(brief, 0, nearest)]
        like[brief] = self._brief.rows[self._brief.at(rows.slots[brief]), nearest[brief] - self._size]
        away: Floats = (state - unpack(like, CLIP)) ** 2
        return np.where(self["held"][rows.slots, None] > 0, away, 0.0)
