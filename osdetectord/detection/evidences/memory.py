"""Memory: distance to the nearest states that the process itself was in before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.evidence import Evidence, Past, Rows, Setup
from osdetectord.detection.slots import Floats, Slots
from osdetectord.detection.smoothing import ewma

NEIGHBOUR = 3
"""The third nearest: two stray states in the past do not excuse a third."""


class Memory(Evidence):
    """Root mean square distance of the smoothed state to its third nearest remembered one.

    A ring of past states, thinned to every ``stride``-th row; the near past (``lag`` rows) waits outside, or else
    a fault would excuse itself.
    """

    name = "memory"
    options = {"smoothing": (0.3, 0.01, 1.0)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._alpha = setup.options["smoothing"]
        self._lag, self._stride = (144, 3) if setup.slow else (20, 2)
        self._size = max(32, setup.memory_rows // self._stride)
        self.declare("smooth", (setup.metrics,))
        self.declare("waiting", (self._lag, setup.metrics), np.float32)
        self.declare("waiting_since", (), np.int64)
        self.declare("states", (self._size, setup.metrics), np.float32)
        self.declare("squares", (self._size,), np.float32, np.inf)
        self.declare("count", (), np.int64)

    def learn(self, past: Past) -> None:
        smooth = ewma(past.z, self._alpha)
        self.clear(past.slots)
        self["smooth"][past.slots] = smooth[:, -1]
        for t in range(len(past)):
            self._remember(past.slots, smooth[:, t], np.ones(len(past.slots)))

    def _smoothed(self, rows: Rows) -> Floats:
        smooth = np.where(rows.fresh[:, None], rows.z, self["smooth"][rows.slots])
        return smooth + self._alpha * (rows.z - smooth)

    def score(self, rows: Rows) -> Floats:
        state = self._smoothed(rows).astype(np.float32)
        states, squares = self["states"], self["squares"]
        metrics = self.setup.metrics
        out = np.zeros(len(rows))
        for k, slot in enumerate(rows.slots):
            held = min(int(self["count"][slot]), self._size)
            if held <= NEIGHBOUR:
                continue
            distance = squares[slot, :held] - 2.0 * (states[slot, :held] @ state[k])
            nearest = np.partition(distance, NEIGHBOUR - 1)[NEIGHBOUR - 1] + state[k] @ state[k]
            out[k] = np.sqrt(max(float(nearest), 0.0) / metrics)
        return out

    def update(self, rows: Rows, rate: Floats) -> None:
        smooth = self._smoothed(rows)
        self["smooth"][rows.slots] = smooth
        self._remember(rows.slots, smooth, rate)

    def _remember(self, slots: Slots, smooth: Floats, rate: NDArray[np.float64]) -> None:
        """Let the oldest waiting state become memory, and this one wait."""
        waiting, since = self["waiting"], self["waiting_since"][slots]
        place = since % self._lag
        ripe = (since >= self._lag) & (since % self._stride == 0)
        old, oldest = slots[ripe], waiting[slots[ripe], place[ripe]]
        at = self["count"][old] % self._size
        self["states"][old, at] = oldest
        self["squares"][old, at] = (oldest * oldest).sum(axis=1)
        self["count"][old] += 1
        waiting[slots, place] = smooth
        self["waiting_since"][slots] += 1

    def blame(self, rows: Rows) -> Floats:
        state = self._smoothed(rows)
        out = np.zeros_like(state)
        for k, slot in enumerate(rows.slots):
            held = min(int(self["count"][slot]), self._size)
            if held:
                away = state[k] - self["states"][slot, :held]
                out[k] = away[np.argmin((away * away).sum(axis=1))] ** 2
        return out
