"""Scale: makes the metrics of a process comparable with each other and with their own past."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.slots import Floats, SlotArrays, Slots

NORMAL_CONSISTENCY = 1.4826
"""Makes the MAD estimate the standard deviation of normal data: 1 / Phi^-1(3/4).

Rousseeuw & Croux 1993, section 1, doi:10.1080/01621459.1993.10476408
"""
LEAST_SPREAD = 0.02
"""Spread below which a deviation does not count: 2 % of the metric's natural size."""
CLIP = 12.0


class Scale(SlotArrays):
    """``z = (asinh(x / natural size) - centre) / spread``: linear near zero, logarithmic far out."""

    name = "scale"

    def __init__(self, metrics: int) -> None:
        super().__init__()
        self.declare("natural", (metrics,), fill=1.0)
        self.declare("centre", (metrics,))
        self.declare("spread", (metrics,), fill=1.0)
        self.declare("baseline", (metrics,))

    def learn(self, slots: Slots, x: Floats) -> None:
        """Learn from past samples of shape ``(K, T, M)``."""
        size = np.abs(x)
        natural = np.maximum(np.median(size, axis=1), 1e-3 * size.max(axis=1)) + 1e-9
        g = np.arcsinh(x / natural[:, None])
        centre = np.median(g, axis=1)
        mad = NORMAL_CONSISTENCY * np.median(np.abs(g - centre[:, None]), axis=1)
        spread = np.where(mad > 1e-6, mad, 0.5 * g.std(axis=1))
        self["natural"][slots] = natural
        self["centre"][slots] = centre
        self["spread"][slots] = np.hypot(spread, LEAST_SPREAD)
        self["baseline"][slots] = 0.0

    def z(self, slots: Slots, x: Floats) -> Floats:
        """Return clipped z of samples of shape ``(K, M)``."""
        z = (np.arcsinh(x / self["natural"][slots]) - self["centre"][slots]) / self["spread"][slots]
        return np.clip(z, -CLIP, CLIP)

    def past_z(self, slots: Slots, x: Floats) -> Floats:
        """Return clipped z of samples of shape ``(K, T, M)``."""
        pick = (slots, None)
        z = (np.arcsinh(x / self["natural"][pick]) - self["centre"][pick]) / self["spread"][pick]
        return np.clip(z, -CLIP, CLIP)

    def follow(self, slots: Slots, z: Floats, rate: Floats) -> None:
        """Let the expected value drift with the samples; ``rate`` has shape ``(K,)``, per row."""
        baseline = self["baseline"]
        baseline[slots] += rate[:, None] * np.clip(z - baseline[slots], -3.0, 3.0)

    def expected(self, slots: Slots, width: float = 3.0) -> tuple[Floats, Floats]:
        """Return the range, ``width`` spreads to both sides, in which samples are expected, in sample units."""
        natural, centre, spread = self["natural"][slots], self["centre"][slots], self["spread"][slots]
        middle = centre + self["baseline"][slots] * spread
        low = natural * np.sinh(middle - width * spread)
        high = natural * np.sinh(middle + width * spread)
        return low, high
