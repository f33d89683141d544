"""Level: how far all metrics together are from a slowly adapting baseline."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.evidence import Evidence, Past, Rows, Setup
from osdetectord.detection.slots import Floats
from osdetectord.detection.smoothing import ewma


class Level(Evidence):
    """Mean log-energy of the smoothed deviation; the logarithm keeps one wild metric from deciding alone."""

    name = "level"
    options = {"smoothing": (0.3, 0.01, 1.0)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.declare("baseline", (setup.metrics,))
        self.declare("smooth", (setup.metrics,))
        self._alpha = setup.options["smoothing"]
        self._drift = 1 / 1500 if setup.slow else 1 / 1000

    def learn(self, past: Past) -> None:
        self["baseline"][past.slots] = 0.0
        self["smooth"][past.slots] = ewma(past.z, self._alpha)[:, -1]

    def _smoothed(self, rows: Rows) -> Floats:
        deviation = rows.z - self["baseline"][rows.slots]
        smooth = np.where(rows.fresh[:, None], 0.0, self["smooth"][rows.slots])
        return smooth + self._alpha * (deviation - smooth)

    def score(self, rows: Rows) -> Floats:
        return self.blame(rows).mean(axis=1)

    def update(self, rows: Rows, rate: Floats) -> None:
        baseline = self["baseline"]
        self["smooth"][rows.slots] = self._smoothed(rows)
        step = np.clip(rows.z - baseline[rows.slots], -3.0, 3.0)
        baseline[rows.slots] += self._drift * rate[:, None] * step

    def blame(self, rows: Rows) -> Floats:
        return np.log1p(self._smoothed(rows) ** 2)
