"""Seasonal: how far a process is from where it was at the same phase of its own period, where it has one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from osdetectord.detection.evidence import Evidence, Options, Past, Rows, Setup
from osdetectord.detection.scale import robust_spread
from osdetectord.detection.slots import Floats
from osdetectord.detection.smoothing import ewma

CYCLES = 3
"""A period is proven by three cycles, and the median of three is what is expected."""
SHORTEST = 12
LEAST_SPREAD = 0.1
MOST = 20.0


class Seasonal(Evidence):
    """Smoothed mean logarithm of the deviation from the median of the same phase of the last three periods.

    The period is where the autocorrelation, averaged over the metrics, is largest; it is believed only if that
    is ``proof`` at least.  Without a period this evidence has nothing to say.
    """

    name = "seasonal"
    options: ClassVar[Options] = {"proof": (0.3, 0.1, 0.95), "longest": (80, 20, 5000)}
    min_rows = 60

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._longest = int(setup.options["longest"]) if not setup.slow else max(300, int(setup.options["longest"]))
        self._proof = setup.options["proof"]
        self._ring = self.declare_for_some("ring", (CYCLES * self._longest, setup.metrics), np.float32)
        self.declare("at", (), np.int64)
        self.declare("period", (), np.int64)
        self.declare("smooth", (setup.metrics,))
        self.declare("spread", (setup.metrics,), fill=1.0)
        self.declare("loud")
        self.declare("live", fill=1.0)

    def learn(self, past: Past) -> None:
        smooth = ewma(past.z, 0.3)
        self["smooth"][past.slots] = smooth[:, -1]
        self["live"][past.slots] = past.live()
        self["loud"][past.slots] = 0.0
        rows = min(len(past), CYCLES * self._longest)
        self["at"][past.slots] = rows
        self._ring.take_back(past.slots)
        for k, slot in enumerate(past.slots):
            period = self._period(smooth[k])
            self["period"][slot] = period
            if period:
                place = self._ring.lend(past.slots[k : k + 1])
                self._ring.rows[place, :rows] = smooth[k, len(past) - rows :]
                residual = np.stack([smooth[k, CYCLES * period - c * period : -c * period] for c in (1, 2, 3)])
                away = smooth[k, CYCLES * period :] - np.median(residual, axis=0)
                self["spread"][slot] = np.hypot(robust_spread(away[None])[0], LEAST_SPREAD)

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

    def _smoothed(self, rows: Rows) -> Floats:
        smooth = np.where(rows.fresh[:, None], rows.z, self["smooth"][rows.slots])
        out: Floats = smooth + 0.3 * (rows.z - smooth)
        return out

    def _energy(self, rows: Rows) -> Floats:
        size, period, at = CYCLES * self._longest, self["period"][rows.slots], self["at"][rows.slots]
        ring = self._ring.at(rows.slots)
        before = np.stack([self._ring.rows[ring, (at - c * period) % size] for c in (1, 2, 3)])
        away = (self._smoothed(rows) - np.median(before, axis=0)) / self["spread"][rows.slots]
        return np.asarray(np.log1p(np.clip(np.abs(away), 0.0, MOST)))

    def score(self, rows: Rows) -> Floats:
        out = np.full(len(rows), np.nan)
        proven = self["period"][rows.slots] > 0
        if proven.any():
            some = rows.pick(proven)
            loud = self["loud"][some.slots]
            now = self._energy(some).sum(axis=1) / self["live"][some.slots]
            out[proven] = loud + 0.2 * (now - loud)
        return out

    def update(self, rows: Rows, rate: Floats) -> None:
        score = self.score(rows)
        self["loud"][rows.slots] = np.where(np.isfinite(score), score, 0.0)
        smooth = self._smoothed(rows)
        self["smooth"][rows.slots] = smooth
        kept = self._ring.has(rows.slots)
        into, at = self._ring.at(rows.slots[kept]), self["at"][rows.slots[kept]]
        self._ring.rows[into, at % (CYCLES * self._longest)] = smooth[kept]
        self["at"][rows.slots] += 1

    def blame(self, rows: Rows) -> Floats:
        away, proven = np.zeros(rows.z.shape), self["period"][rows.slots] > 0
        away[proven] = self._energy(rows.pick(proven))
        return away
