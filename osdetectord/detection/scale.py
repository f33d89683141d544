"""Scale: makes the metrics of a process comparable with each other and with their own past."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.slots import Bools, Floats, SlotArrays, Slots

NORMAL_CONSISTENCY = 1.4826
"""Makes the MAD estimate the standard deviation of normal data: 1 / Phi^-1(3/4).

Rousseeuw & Croux 1993, section 1, doi:10.1080/01621459.1993.10476408
"""
TAIL_WIDTH = 4.65
"""Standard deviations between the 1 % and the 99 % point of a normal distribution."""
LEAST_SPREAD = 0.02
"""Spread below which a deviation does not count: 2 % of the metric's natural size."""
CLIP = 12.0
BLOCKS, BLOCK_ROWS = 3, 15
"""A step is accepted when it has held for three blocks of rows."""
STEP_AWAY, STEP_RANGE = 3.0, 0.5
"""... and lies more than three spreads away, with a range below half of that."""
NATURAL = 0.3
LOAD_ROWS, LOAD_METRICS, LOAD_CORRELATION, LOAD_LEAST, LOAD_MOST = 5, 4, 0.7, 0.05, 1.2
LOAD_SPEED, LOAD_STEP = 0.005, 0.5
"""Nats a row by which the load goes down when nothing is wrong, and in one step when something is."""
RECENT = 1 / 30
"""Weight of a row in the recent level."""
LEAST_NATURAL = 1e-9
"""Natural size of what was nothing as long as it was learnt."""
AWAY = 3.0
"""Spreads from which a metric is fully to blame: what is within its range explains little."""
FALL_WEIGHT = 0.25
"""A fall counts for so much less than a rise in what is blamed: time and work that go elsewhere are missing where
they used to be, and on a logarithmic scale a fall to nothing has no bound.  Where nothing rises, falls lead."""
UNKNOWN_WEIGHT = 0.5
"""... and so does what was never seen before: nobody knows how much of it is much."""
MOVED = 1.5
"""Spreads by which a metric has moved for good when a new normal is accepted."""


def robust_spread(values: Floats) -> Floats:
    """Return the spread along axis 1: MAD, widened where the 1 % and 99 % points are further out."""
    middle = np.median(values, axis=1)
    mad = NORMAL_CONSISTENCY * np.median(np.abs(values - middle[:, None]), axis=1)
    low, high = np.quantile(values, [0.01, 0.99], axis=1)
    spread: Floats = np.maximum(np.where(mad > 1e-6, mad, 0.5 * values.std(axis=1)), (high - low) / TAIL_WIDTH)
    return spread


class Scale(SlotArrays):
    """``z = (asinh(x / natural size) - centre) / spread - offset``: linear near zero, logarithmic far out.

    Metrics that are like a staircase (open files, threads, resident memory) stay where a fault has left them.
    Theirs is the offset: a new step becomes the reference as soon as it has held for a while.
    """

    name = "scale"

    def __init__(self, metrics: int, slow: bool = False) -> None:
        super().__init__()
        self._slow, self._load_speed = slow, 0.0 if slow else LOAD_SPEED
        self._asked: tuple[Floats, Floats] | None = None
        self._weighed: tuple[Floats, Bools, Floats] | None = None
        self.declare("natural", (metrics,), fill=1.0)
        self.declare("centre", (metrics,))
        self.declare("spread", (metrics,), fill=1.0)
        self.declare("offset", (metrics,))
        self.declare("staircase", (metrics,), np.bool_)
        self.declare("lows", (BLOCKS, metrics), fill=np.inf)
        self.declare("highs", (BLOCKS, metrics), fill=-np.inf)
        self.declare("rows", (), np.int64)
        self.declare("baseline", (metrics,))
        self.declare("recent", (metrics,))
        self.declare("load", (metrics,))
        self.declare("carries", (metrics,), np.bool_)
        self.declare("load_high")
        self.declare("load_low")
        self.declare("load_floor")

    def learn(self, slots: Slots, x: Floats) -> None:
        """Learn from past samples of shape ``(K, T, M)``."""
        self._asked = self._weighed = None
        self.clear(slots)
        size = np.abs(x)
        natural = NATURAL * np.maximum(np.median(size, axis=1), 1e-3 * size.max(axis=1)) + LEAST_NATURAL
        g = np.arcsinh(x / natural[:, None])
        self["natural"][slots] = natural
        self["centre"][slots] = np.median(g, axis=1)
        self["spread"][slots] = np.hypot(robust_spread(g), LEAST_SPREAD)
        steps = np.diff(x, axis=1)
        still = (steps == 0.0).mean(axis=1)
        variance = np.maximum(x.var(axis=1), 1e-12)
        # von Neumann's ratio: 2 for noise, near 0 for a walk (doi:10.1214/aoms/1177731677)
        smooth = (steps * steps).mean(axis=1) / variance
        # where a row is minutes long, everything is smooth from row to row
        self["staircase"][slots] = ((still >= 0.5) | (smooth < 0.05)) & (not self._slow)
        z = self._smooth(self.past_z(slots, x))
        for slot, past in zip(slots, z, strict=True):
            self._learn_load(slot, past)

    @staticmethod
    def _smooth(z: Floats) -> Floats:
        total = np.cumsum(z, axis=1)
        return (total[:, LOAD_ROWS:] - total[:, :-LOAD_ROWS]) / LOAD_ROWS

    def _learn_load(self, slot: int, z: Floats) -> None:
        """Find the metrics that rise and fall together with the load, and how far one nat of load moves each."""
        centred = z - np.median(z, axis=0)
        deviation = centred.std(axis=0)
        moving = deviation > 1e-9
        if moving.sum() < LOAD_METRICS:
            return
        unit = np.where(moving, centred / np.where(moving, deviation, 1.0), 0.0)
        correlation = unit.T @ unit / len(unit)
        directions = np.linalg.eigh(correlation)[1]
        first = unit @ directions[:, -1]
        belongs = unit.T @ first / len(unit) / max(float(first.std()), 1e-12)
        if np.sum(belongs > 0) < np.sum(belongs < 0):
            belongs = -belongs
        group = belongs > LOAD_CORRELATION
        if group.sum() < LOAD_METRICS:
            return
        load = (centred[:, group] * self["spread"][slot, group]).mean(axis=1)
        variance = float(load.var())
        if variance < LOAD_LEAST**2:
            return
        slope = (centred * load[:, None]).mean(axis=0) / variance
        share = (slope * slope) * variance / np.maximum(deviation * deviation, 1e-12)
        self["load"][slot] = slope * np.clip(share, 0.0, 1.0)
        self["carries"][slot] = group
        self["load_high"][slot] = np.quantile(load, 0.95)
        self["load_low"][slot] = self["load_floor"][slot] = np.quantile(load, 0.05)

    def _less_load(self, slots: Slots, x: Floats, far: Floats) -> Floats:
        """Take from ``far`` what a load outside any seen explains: above it, up to a few times as much; below it, as
        far as the load has gone down slowly."""
        some, load = self._loads(slots, x, far)
        excess = np.zeros(len(slots))
        if some.any():
            at = slots[some]
            low = self["load_low"][at]
            above = np.clip(load - self["load_high"][at], 0.0, LOAD_MOST)
            excess[some] = above + np.clip(load - low, self["load_floor"][at] - low, 0.0)
        less: Floats = far - excess[:, None] * self["load"][slots]
        return less

    def _loads(self, slots: Slots, x: Floats, far: Floats) -> tuple[Bools, Floats]:
        """Return which series have a load, and that of those; asked for twice for each row."""
        if self._weighed is None or self._weighed[0] is not x:
            loaded = self["carries"][slots].any(axis=1)
            self._weighed = (x, loaded, self._load(slots[loaded], far[loaded]))
        return self._weighed[1], self._weighed[2]

    def _load(self, slots: Slots, far: Floats) -> Floats:
        """Return the load of series that have one, in nats from its median."""
        carries = self["carries"][slots]
        loads = np.where(carries, far / np.where(carries, self["load"][slots], 1.0), np.inf)
        # sorting float32 is eight times as fast
        loads = np.sort(loads.astype(np.float32), axis=1).astype(np.float64)
        count, series = carries.sum(axis=1), np.arange(len(slots))
        return np.asarray(0.5 * (loads[series, (count - 1) // 2] + loads[series, count // 2]))

    def _follow_load(self, slots: Slots, x: Floats, far: Floats) -> None:
        """Let the floor of the load go down with it, slowly: clients that go home are not clients that are cut off."""
        loaded, load = self._loads(slots, x, far)
        if loaded.any():
            at = slots[loaded]
            below = load - self["load_floor"][at]
            slowly = below > -LOAD_STEP
            self["load_floor"][at] += np.where(slowly, np.clip(below, -self._load_speed, 0.0), 0.0)

    def _far(self, slots: Slots, x: Floats) -> Floats:
        if self._asked is None or self._asked[0] is not x:
            far: Floats = (np.arcsinh(x / self["natural"][slots]) - self["centre"][slots]) / self["spread"][slots]
            self._asked = (x, far)
        return self._asked[1]

    def z(self, slots: Slots, x: Floats) -> Floats:
        """Return clipped z of samples of shape ``(K, M)``."""
        far = self._far(slots, x) - self["offset"][slots]
        return np.clip(self._less_load(slots, x, far), -CLIP, CLIP)

    def past_z(self, slots: Slots, x: Floats) -> Floats:
        """Return clipped z of samples of shape ``(K, T, M)``."""
        pick = (slots, None)
        z = (np.arcsinh(x / self["natural"][pick]) - self["centre"][pick]) / self["spread"][pick]
        return np.asarray(np.clip(z - self["offset"][pick], -CLIP, CLIP))

    def follow(self, slots: Slots, x: Floats, rate: Floats) -> None:
        """Let the expected value drift with the samples, and accept steps that hold; ``rate`` has shape ``(K,)``."""
        far = self._far(slots, x)
        self["recent"][slots] += RECENT * (far - self["recent"][slots])
        self._follow_load(slots, x, far - self["offset"][slots])
        baseline = self["baseline"]
        baseline[slots] += rate[:, None] * np.clip(far - self["offset"][slots] - baseline[slots], -1.0, 1.0)
        block = self["rows"][slots] // BLOCK_ROWS % BLOCKS
        lows, highs = self["lows"], self["highs"]
        opening = self["rows"][slots] % BLOCK_ROWS == 0
        lows[slots[opening], block[opening]] = np.inf
        highs[slots[opening], block[opening]] = -np.inf
        lows[slots, block] = np.minimum(lows[slots, block], far)
        highs[slots, block] = np.maximum(highs[slots, block], far)
        self["rows"][slots] += 1
        count = self["rows"][slots]
        self._accept(slots[(count % BLOCK_ROWS == 0) & (count >= BLOCKS * BLOCK_ROWS)])

    def _accept(self, slots: Slots) -> None:
        low, high = self["lows"][slots].min(axis=1), self["highs"][slots].max(axis=1)
        middle = 0.5 * (low + high)
        away = np.abs(middle - self["offset"][slots])
        steady = high - low < np.maximum(STEP_RANGE * away, 1.0)
        moved: NDArray[np.bool_] = self["staircase"][slots] & (away > STEP_AWAY) & steady
        self["offset"][slots] = np.where(moved, middle, self["offset"][slots])

    def deviation(self, slots: Slots, x: Floats) -> Floats:
        """Return how many spreads samples of shape ``(K, M)`` are from what is expected, signed and not clipped."""
        return np.asarray(self._far(slots, x) - self["offset"][slots] - self["baseline"][slots])

    def telling(self, slots: Slots, z: Floats) -> Floats:
        """Return how much each metric says about the cause, for z of shape ``(K, M)``, in ``[0, 1]``."""
        away = np.minimum(np.abs(z) / AWAY, 1.0) * np.where(z < 0.0, FALL_WEIGHT, 1.0)
        known = np.where(self["natural"][slots] <= LEAST_NATURAL, UNKNOWN_WEIGHT, 1.0)
        return np.asarray(away * known)

    def restart(self, slots: Slots, x: Floats) -> None:
        """Let staircases start from these samples."""
        self._weighed = None
        self["offset"][slots] = np.where(self["staircase"][slots], self._far(slots, x), self["offset"][slots])
        self["rows"][slots] = 0

    def accept(self, slots: Slots) -> None:
        """Make the level of the last rows the reference of all metrics that left it."""
        recent, offset = self["recent"][slots], self["offset"][slots]
        self["offset"][slots] = np.where(np.abs(recent - offset) > MOVED, recent, offset)
        self["baseline"][slots] = 0.0
        self["rows"][slots] = 0

    def expected(self, slots: Slots, width: float = 3.0) -> tuple[Floats, Floats]:
        """Return the range, ``width`` spreads to both sides, in which samples are expected, in sample units."""
        natural, centre, spread = self["natural"][slots], self["centre"][slots], self["spread"][slots]
        middle = centre + (self["baseline"][slots] + self["offset"][slots]) * spread
        low = natural * np.sinh(middle - width * spread)
        high = natural * np.sinh(middle + width * spread)
        return low, high
