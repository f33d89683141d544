"""Load: how much work a process is given, as told by the metrics that rise and fall together."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.slots import Bools, Floats, SlotArrays, Slots

SMOOTH_ROWS = 5
LEAST_METRICS, CORRELATION, LEAST_DEVIATION = 4, 0.7, 0.05
"""So many metrics must go with what moves most, so closely, and move by so many nats, for there to be a load."""
EXPLAINS, FADES = 0.9, 2.0
"""Load above any seen explains what it moves up to so many nats, two and a half times as much.  Of what is beyond,
each nat takes back two: the tenfold of everything is no rush of clients."""
SPEED, STEP = 0.01, 0.5
"""Nats a row by which the floor goes down with the load, and in one step when something is wrong."""


class Load(SlotArrays):
    """The first principal component of a series' deviations, where many metrics follow it.

    All loads are in nats from the median of what was learnt: e-fold work is 1.

    Parameters
    ----------
    metrics
        Number M of metrics.
    slow
        Whether rows are minutes apart: a load that goes down within a day is then no reason to expect less.
    """

    name = "load"

    def __init__(self, metrics: int, slow: bool) -> None:
        super().__init__()
        self._speed = 0.0 if slow else SPEED
        self.declare("slope", (metrics,))
        self.declare("carries", (metrics,), np.bool_)
        self.declare("high")
        self.declare("most")
        self.declare("low")
        self.declare("floor")

    def learn(self, slot: int, z: Floats, spread: Floats) -> None:
        """Find the metrics that carry the load, and by how many spreads one nat of it moves each.

        Parameters
        ----------
        slot
            Of the series.
        z
            Shape ``(T, M)``, past deviations in spreads.
        spread
            Shape ``(M,)``, in nats.
        """
        total = np.cumsum(z, axis=0)
        smooth = (total[SMOOTH_ROWS:] - total[:-SMOOTH_ROWS]) / SMOOTH_ROWS
        centred = smooth - np.median(smooth, axis=0)
        deviation = centred.std(axis=0)
        moving = deviation > 1e-9
        if moving.sum() < LEAST_METRICS:
            return
        unit = np.where(moving, centred / np.where(moving, deviation, 1.0), 0.0)
        directions = np.linalg.eigh(unit.T @ unit / len(unit))[1]
        first = unit @ directions[:, -1]
        belongs = unit.T @ first / len(unit) / max(float(first.std()), 1e-12)
        if np.sum(belongs > 0) < np.sum(belongs < 0):
            belongs = -belongs
        group = belongs > CORRELATION
        if group.sum() < LEAST_METRICS:
            return
        load = (centred[:, group] * spread[group]).mean(axis=1)
        variance = float(load.var())
        if variance < LEAST_DEVIATION**2:
            return
        slope = (centred * load[:, None]).mean(axis=0) / variance
        share = (slope * slope) * variance / np.maximum(deviation * deviation, 1e-12)
        self["slope"][slot] = slope * np.clip(share, 0.0, 1.0)
        self["carries"][slot] = group
        self["high"][slot] = self["most"][slot] = np.quantile(load, 0.95)
        self["low"][slot] = self["floor"][slot] = np.quantile(load, 0.05)

    def of(self, slots: Slots, z: Floats) -> Floats:
        """Return shape ``(K,)``, the load that deviations of shape ``(K, M)`` show: the median of what the metrics
        say that carry it; NaN for series that have none."""
        load = np.full(len(slots), np.nan)
        carries = self["carries"][slots]
        some = carries.any(axis=1)
        carries = carries[some]
        loads = np.where(carries, z[some] / np.where(carries, self["slope"][slots[some]], 1.0), np.inf)
        # sorting float32 is eight times as fast
        loads = np.sort(loads.astype(np.float32), axis=1).astype(np.float64)
        count, series = carries.sum(axis=1), np.arange(len(carries))
        load[some] = 0.5 * (loads[series, (count - 1) // 2] + loads[series, count // 2])
        return load

    def ordinary(self, slots: Slots, load: Floats) -> Floats:
        """Return the load, but no more than there usually is at most."""
        return np.minimum(load, self["high"][slots])

    def explained(self, slots: Slots, load: Floats) -> Floats:
        """Return shape ``(K, M)``, the deviations that a load outside what was learnt explains: above it, all that
        was seen since and up to a few times as much; below it, as far as the load has gone down slowly."""
        high, most, low = self["high"][slots], self["most"][slots], self["low"][slots]
        beyond = np.maximum(load - most, 0.0)
        above = np.clip(load - high, 0.0, most - high) + np.clip(EXPLAINS - FADES * (beyond - EXPLAINS), 0.0, beyond)
        outside = above + np.clip(load - low, self["floor"][slots] - low, 0.0)
        return np.asarray(np.nan_to_num(outside)[:, None] * self["slope"][slots])

    def follow(self, slots: Slots, load: Floats, rate: Floats) -> None:
        """Let the most that was seen grow with the load, at ``rate``, and the floor go down with it, slowly: clients
        that go home are not clients that are cut off."""
        self["most"][slots] += rate * np.nan_to_num(np.clip(load - self["most"][slots], 0.0, 1.0))
        below = load - self["floor"][slots]
        slowly: Bools = below > -STEP
        self["floor"][slots] += np.where(slowly, np.clip(below, -self._speed, 0.0), 0.0)
