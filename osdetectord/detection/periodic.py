"""Periodic: where a process was at the same phase of its own period, where it has one."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from osdetectord.detection.evidence import Evidence, Past, Rows, Setup
from osdetectord.detection.scale import robust_spread
from osdetectord.detection.slots import Bools, Floats
from osdetectord.detection.smoothing import ewma

CYCLES = 3
"""A period is proven by three cycles, and the median of three is what is expected."""
SHORTEST = 12
SMOOTHING = 0.3


class Periodic(Evidence):
    """Base of the evidences that compare the smoothed metrics with the same phase of the last three periods.

    The period is where the autocorrelation, averaged over the metrics, is largest; it is believed only if that
    is ``proof`` at least, and no longer than ``longest`` rows.
    """

    def __init__(self, setup: Setup, proof: float, longest: int) -> None:
        super().__init__(setup)
        self._proof, self._longest = proof, longest
        self._ring = self.declare_for_some("ring", (CYCLES * longest, setup.metrics), np.float32)
        self.declare("at", (), np.int64)
        self.declare("period", (), np.int64)
        self.declare("smooth", (setup.metrics,))
        self.declare("live", fill=1.0)

    def learn(self, past: Past) -> None:
        smooth = ewma(past.z, SMOOTHING)
        self["smooth"][past.slots] = smooth[:, -1]
        self["live"][past.slots] = past.live()
        rows = min(len(past), CYCLES * self._longest)
        self["at"][past.slots] = rows
        self._ring.take_back(past.slots)
        for k, slot in enumerate(past.slots):
            period = self._period(smooth[k])
            self["period"][slot] = period
            if period:
                place = self._ring.lend(past.slots[k : k + 1])
                self._ring.rows[place, :rows] = smooth[k, len(past) - rows :]
                before = np.stack([smooth[k, CYCLES * period - c * period : -c * period] for c in (1, 2, 3)])
                self._learn_away(int(slot), smooth[k, CYCLES * period :] - np.median(before, axis=0))

    @abstractmethod
    def _learn_away(self, slot: int, away: Floats) -> None:
        """Learn from past deviations from the same phase, shape ``(T, M)``, of a series that has a period."""

    def _period(self, smooth: Floats) -> int:
        """Return the proven period in rows, 0 if there is none."""
        longest = min(self._longest, (len(smooth) - 1) // (CYCLES + 1))
        if longest < SHORTEST:
            return 0
        centred = smooth - np.median(smooth, axis=0)
        spread = robust_spread(centred[None])[0]
        unit = np.clip(centred[:, spread > 1e-6] / spread[spread > 1e-6], -4.0, 4.0)
        if not unit.shape[1]:
            return 0
        spectrum = np.fft.rfft(unit - unit.mean(axis=0), 2 * len(unit), axis=0)
        correlation = np.fft.irfft((spectrum * spectrum.conj()).real, axis=0)[: longest + 2].sum(axis=1)
        correlation = correlation / max(float(correlation[0]), 1e-12)
        correlation *= len(unit) / (len(unit) - np.arange(len(correlation)))
        peaks = [
            lag
            for lag in range(SHORTEST, longest + 1)
            if correlation[lag - 1] < correlation[lag] >= correlation[lag + 1] and correlation[lag] >= self._proof
        ]
        return max(peaks, key=lambda lag: float(correlation[lag]), default=0)

    def _proven(self, rows: Rows) -> Bools:
        return np.asarray(self["period"][rows.slots] > 0)

    def _smoothed(self, rows: Rows) -> Floats:
        smooth = np.where(rows.fresh[:, None], rows.z, self["smooth"][rows.slots])
        out: Floats = smooth + SMOOTHING * (rows.z - smooth)
        return out

    def _away(self, rows: Rows) -> Floats:
        """Return shape ``(K, M)``, how far series that all have a period are from the same phase of the last ones."""
        size, period, at = CYCLES * self._longest, self["period"][rows.slots], self["at"][rows.slots]
        ring = self._ring.at(rows.slots)
        before = np.stack([self._ring.rows[ring, (at - c * period) % size] for c in (1, 2, 3)])
        return np.asarray(self._smoothed(rows) - np.median(before, axis=0))

    def update(self, rows: Rows, rate: Floats) -> None:
        smooth = self._smoothed(rows)
        self["smooth"][rows.slots] = smooth
        kept = self._ring.has(rows.slots)
        into, at = self._ring.at(rows.slots[kept]), self["at"][rows.slots[kept]]
        self._ring.rows[into, at % (CYCLES * self._longest)] = smooth[kept]
        self["at"][rows.slots] += 1
