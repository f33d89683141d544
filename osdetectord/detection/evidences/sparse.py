"""Sparse: few metrics far out, where a mean over all would dilute them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from osdetectord.detection.deviation import Deviation
from osdetectord.detection.evidence import Options, Rows, Setup
from osdetectord.detection.slots import Floats

SHARE = 0.18
"""The loudest 18 % of the metrics speak: 8 of 45."""


class Sparse(Deviation):
    """Mean log-energy of the loudest deviations from a baseline of minutes."""

    name = "sparse"
    typical = (0.84, 0.28)
    options: ClassVar[Options] = {"smoothing": (0.5, 0.01, 1.0), "share": (SHARE, 0.01, 1.0)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, setup.options["smoothing"], follow=0.005, slew=0.5)
        self._share = setup.options["share"]

    def score(self, rows: Rows) -> Floats:
        # sorting float32 is eight times as fast
        loudest = -np.sort(-self.blame(rows).astype(np.float32), axis=1)
        count = np.maximum(1, np.rint(self._share * self["live"][rows.slots])).astype(np.intp)
        total = np.cumsum(loudest, axis=1, dtype=np.float64)
        mean: Floats = total[np.arange(len(rows)), count - 1] / count
        return mean
