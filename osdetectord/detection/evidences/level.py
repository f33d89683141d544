"""Level: how far all metrics together are from where they use to be."""

from __future__ import annotations

from typing import ClassVar

from osdetectord.detection.deviation import Deviation
from osdetectord.detection.evidence import Options, Rows, Setup
from osdetectord.detection.slots import Floats


class Level(Deviation):
    """Mean log-energy of the deviations; the logarithm keeps one wild metric from deciding alone."""

    name = "level"
    typical = (-0.07, 0.31)
    options: ClassVar[Options] = {"smoothing": (0.3, 0.01, 1.0)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, setup.options["smoothing"], follow=1 / 1500 if setup.slow else 1 / 1000, slew=3.0)

    def score(self, rows: Rows) -> Floats:
        mean: Floats = self.blame(rows).sum(axis=1) / self["live"][rows.slots]
        return mean
