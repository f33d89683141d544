"""Local: how far all metrics together are from where they were in the last minutes."""

from __future__ import annotations

from typing import ClassVar

from osdetectord.detection.deviation import Deviation
from osdetectord.detection.evidence import Options, Rows, Setup
from osdetectord.detection.slots import Floats


class Local(Deviation):
    """As level, with a baseline that follows load and drift within minutes."""

    name = "local"
    typical = (-0.2, 0.36)
    options: ClassVar[Options] = {"smoothing": (0.3, 0.01, 1.0), "follow": (0.005, 0.0001, 0.1)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, setup.options["smoothing"], setup.options["follow"], slew=0.5)

    def score(self, rows: Rows) -> Floats:
        mean: Floats = self.blame(rows).sum(axis=1) / self["live"][rows.slots]
        return mean
