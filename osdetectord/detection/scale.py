"""Scale: makes the metrics of a process comparable with each other and with their own past."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.load import Load
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
BLOCKS, BLOCK_ROWS = 3, 8
"""A step is accepted when it has held for three blocks of rows."""
STEP_AWAY, STEP_RANGE = 3.0, 0.5
"""... and lies more than three spreads away, with a range below half of that."""
NATURAL = 0.3
RECENT = 1 / 10
"""Weight of a row in the recent level."""
LEAST_NATURAL = 1e-9
"""Natural size of what was nothing as long as it was learnt."""
NEW_CLIP = 6.0
"""Such a metric has no size to be many times of: any at all is this much."""
STILL = 1e-3
"""Steps of a metric below such a share of its size are none."""
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
    Theirs is the offset: a new step becomes the reference as soon as it has held for a while.  The step before it
    stays one too, so that the way back is no news.
    """

    name = "scale"

    def __init__(self, metrics: int, slow: bool = False) -> None:
        super().__init__()
        self._slow, self._load = slow, Load(metrics, slow)
        self._asked: tuple[Floats, Floats] | None = None
        self._weighed: tuple[Floats, Floats, Floats] | None = None
        self.declare("natural", (metrics,), fill=1.0)
        self.declare("centre", (metrics,))
        self.declare("spread", (metrics,), fill=1.0)
        self.declare("offset", (metrics,))
        self.declare("former", (metrics,))
        self.declare("staircase", (metrics,), np.bool_)
        self.declare("lows", (BLOCKS, metrics), fill=np.inf)
        self.declare("highs", (BLOCKS, metrics), fill=-np.inf)
        self.declare("rows", (), np.int64)
        self.declare("baseline", (metrics,))
        self.declare("recent", (metrics,))

    def parts(self) -> list[SlotArrays]:
        """Return all that keeps state for it."""
        return [self, self._load]

    def learn(self, slots: Slots, x: Floats) -> None:
        """Learn from past samples of shape ``(K, T, M)``."""
        self._asked = self._weighed = None
        for part in self.parts():
            part.clear(slots)
        size = np.abs(x)
        natural = NATURAL * np.maximum(np.median(size, axis=1), 1e-3 * size.max(axis=1)) + LEAST_NATURAL
        g = np.arcsinh(x / natural[:, None])
        self["natural"][slots] = natural
        self["centre"][slots] = np.median(g, axis=1)
        self["spread"][slots] = np.hypot(robust_spread(g), LEAST_SPREAD)
        steps = np.diff(x, axis=1)
        still = (np.abs(steps) <= STILL * np.median(size, axis=1)[:, None]).mean(axis=1)
        variance = np.maximum(x.var(axis=1), 1e-12)
        # von Neumann's ratio: 2 for noise, near 0 for a walk (doi:10.1214/aoms/1177731677)
        smooth = (steps * steps).mean(axis=1) / variance
        # where a row is minutes long, everything is smooth from row to row
        self["staircase"][slots] = ((still >= 0.5) | (smooth < 0.05)) & (not self._slow)
        for slot, z in zip(slots, self.past_z(slots, x), strict=True):
            self._load.learn(slot, z, self["spread"][slot])

    def _far(self, slots: Slots, x: Floats) -> Floats:
        if self._asked is None or self._asked[0] is not x:
            far: Floats = (np.arcsinh(x / self["natural"][slots]) - self["centre"][slots]) / self["spread"][slots]
            self._asked = (x, far)
        return self._asked[1]

    def z(self, slots: Slots, x: Floats) -> Floats:
        """Return clipped z of samples of shape ``(K, M)``."""
        away, load = self._weigh(slots, x)
        most = np.where(self["natural"][slots] <= LEAST_NATURAL, NEW_CLIP, CLIP)
        return np.clip(away - self._load.explained(slots, load), -most, most)

    def load(self, slots: Slots, x: Floats) -> Floats:
        """Return the load of each series that samples of shape ``(K, M)`` show, at most what is ordinary, in nats."""
        return self._load.ordinary(slots, self._weigh(slots, x)[1])

    def _weigh(self, slots: Slots, x: Floats) -> tuple[Floats, Floats]:
        """Return how far samples are from the reference, and the load that they show; asked for again for each row."""
        if self._weighed is None or self._weighed[0] is not x:
            far = self._far(slots, x)
            away = far - self._reference(slots, far)
            self._weighed = (x, away, self._load.of(slots, away))
        return self._weighed[1], self._weighed[2]

    def _reference(self, slots: Slots, far: Floats) -> Floats:
        """Return the nearer of the present step and the one before it."""
        offset, former = self["offset"][slots], self["former"][slots]
        return np.where(np.abs(far - former) < np.abs(far - offset), former, offset)

    def past_z(self, slots: Slots, x: Floats) -> Floats:
        """Return clipped z of samples of shape ``(K, T, M)``."""
        pick = (slots, None)
        z = (np.arcsinh(x / self["natural"][pick]) - self["centre"][pick]) / self["spread"][pick]
        return np.asarray(np.clip(z - self["offset"][pick], -CLIP, CLIP))

    def past_load(self, slots: Slots, z: Floats) -> Floats:
        """Return shape ``(K, T)``, the load as :meth:`load` has it that past z of shape ``(K, T, M)`` show."""
        rows = [np.full(z.shape[1], slot) for slot in slots]
        return np.array([self._load.ordinary(at, self._load.of(at, own)) for at, own in zip(rows, z, strict=True)])

    def follow(self, slots: Slots, x: Floats, rate: Floats) -> None:
        """Let the expected value drift with the samples, and accept steps that hold; ``rate`` has shape ``(K,)``."""
        far = self._far(slots, x)
        self["recent"][slots] += RECENT * (far - self["recent"][slots])
        away, load = self._weigh(slots, x)
        self._load.follow(slots, load, rate)
        baseline = self["baseline"]
        baseline[slots] += rate[:, None] * np.clip(away - baseline[slots], -1.0, 1.0)
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
        # the first block may hold the row in which it moved
        last = (self["rows"][slots] - 1) // BLOCK_ROWS % BLOCKS
        middle = 0.5 * (self["lows"][slots, last] + self["highs"][slots, last])
        away = np.abs(middle - self["offset"][slots])
        steady = high - low < np.maximum(STEP_RANGE * away, 1.0)
        moved: NDArray[np.bool_] = self["staircase"][slots] & (away > STEP_AWAY) & steady
        self._move(slots, moved, middle)

    def deviation(self, slots: Slots, x: Floats) -> Floats:
        """Return how many spreads samples of shape ``(K, M)`` are from what is expected, signed and not clipped."""
        far = self._far(slots, x)
        return np.asarray(far - self._reference(slots, far) - self["baseline"][slots])

    def telling(self, slots: Slots, z: Floats) -> Floats:
        """Return how much each metric says about the cause, for z of shape ``(K, M)``, in ``[0, 1]``."""
        away = np.minimum(np.abs(z) / AWAY, 1.0) * np.where(z < 0.0, FALL_WEIGHT, 1.0)
        known = np.where(self["natural"][slots] <= LEAST_NATURAL, UNKNOWN_WEIGHT, 1.0)
        return np.asarray(away * known)

    def restart(self, slots: Slots, x: Floats, first: Bools) -> None:
        """Let staircases start from these samples, for several rows in turn.

        ``first``, shape ``(K,)``: whether it is the first of them; what was the reference until then remains one.
        """
        self._move(slots, self["staircase"][slots] & first[:, None], self._far(slots, x))
        self["offset"][slots] = np.where(self["staircase"][slots], self._far(slots, x), self["offset"][slots])
        self["rows"][slots] = 0

    def _departed(self, slots: Slots) -> Floats:
        """Return shape ``(K, M)``, how many spreads the level of the last rows is from the present reference."""
        return np.asarray(np.abs(self["recent"][slots] - self["offset"][slots]))

    def moved(self, slots: Slots) -> Bools:
        """Return shape ``(K, M)``, which metrics have left their reference over the last rows."""
        return np.asarray(self._departed(slots) > MOVED)

    def elsewhere(self, slots: Slots, x: Floats) -> Bools:
        """Return shape ``(K, M)``, which are far from all references, in samples of that shape as in the last rows."""
        far = self._far(slots, x)
        away = np.abs(far - self._reference(slots, far)) > STEP_AWAY
        return np.asarray(away & (self._departed(slots) > STEP_AWAY))

    def accept(self, slots: Slots, which: Bools) -> None:
        """Make the level of the last rows the reference of some metrics, ``which`` of shape ``(K, M)``."""
        self._move(slots, which, self["recent"][slots])
        self["baseline"][slots] = 0.0
        self["rows"][slots] = 0

    def _move(self, slots: Slots, which: Bools, to: Floats) -> None:
        """Make ``to`` the reference of some metrics, and what it was the one before it."""
        self._weighed = None
        offset = self["offset"][slots]
        self["former"][slots] = np.where(which, offset, self["former"][slots])
        self["offset"][slots] = np.where(which, to, offset)

    def expected(self, slots: Slots, x: Floats, width: float = 3.0) -> tuple[Floats, Floats]:
        """Return the range, ``width`` spreads to both sides, in which samples were expected instead of ``x``, in
        sample units."""
        natural, centre, spread = self["natural"][slots], self["centre"][slots], self["spread"][slots]
        middle = centre + (self["baseline"][slots] + self._reference(slots, self._far(slots, x))) * spread
        low = natural * np.sinh(middle - width * spread)
        high = natural * np.sinh(middle + width * spread)
        return low, high
