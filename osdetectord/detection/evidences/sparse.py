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
    options: ClassVar[Options] = {"smoothing": (0.3, 0.01, 1.0), "share": (SHARE, 0.01, 1.0)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, setup.options["smoothing"], follow=0.005, slew=0.5)
        self._loudest = max(1, round(setup.options["share"] * setup.metrics))

    def score(self, rows: Rows) -> Floats:
        energy = self.blame(rows)
        mean: Floats = np.partition(energy, -self._loudest, axis=1)[:, -self._loudest :].mean(axis=1)
        return mean
