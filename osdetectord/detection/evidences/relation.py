"""Relation: what of each metric the other metrics do not explain; work per request, bytes per call."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from osdetectord.detection.evidence import Evidence, Options, Past, Rows, Setup
from osdetectord.detection.pieces import pieces
from osdetectord.detection.scale import CLIP, robust_spread
from osdetectord.detection.slots import Floats
from osdetectord.detection.smoothing import ewma

LEAST_SPREAD = 0.1
LEARN_CLIP = 6.0


class Relation(Evidence):
    """Mean log-energy of each metric's residual in a ridge regression on all others.

    All the regressions come from one matrix: with the precision ``P = inv(cov + ridge I)`` the residual of metric j
    is ``(P z)_j / P_jj`` (Lauritzen 1996, section 5.1).  More load with the same work per request leaves it small.
    """

    name = "relation"
    typical = (0.0, 0.36)
    options: ClassVar[Options] = {"smoothing": (0.3, 0.01, 1.0), "ridge": (3.0, 0.01, 100.0)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._alpha, self._ridge = setup.options["smoothing"], setup.options["ridge"]
        self.declare("smooth", (setup.metrics,))
        self.declare("residual", (setup.metrics, setup.metrics), np.float32)
        self.declare("spread", (setup.metrics,), fill=1.0)
        self.declare("live", fill=1.0)

    def learn(self, past: Past) -> None:
        smooth = ewma(past.z, self._alpha)
        seen = np.clip(smooth[:, min(10, len(past) // 4) :], -LEARN_CLIP, LEARN_CLIP)
        covariance = np.matmul(seen.swapaxes(1, 2), seen) / seen.shape[1]
        precision = np.linalg.inv(covariance + self._ridge * np.eye(self.setup.metrics))
        operator = precision / np.diagonal(precision, axis1=1, axis2=2)[:, None, :]
        self["residual"][past.slots] = operator
        self["spread"][past.slots] = np.hypot(robust_spread(np.matmul(seen, operator)), LEAST_SPREAD)
        self["smooth"][past.slots] = smooth[:, -1]
        self["live"][past.slots] = past.live()

    def _smoothed(self, rows: Rows) -> Floats:
        smooth = np.where(rows.fresh[:, None], 0.0, self["smooth"][rows.slots])
        return np.asarray(smooth + self._alpha * (rows.z - smooth))

    def score(self, rows: Rows) -> Floats:
        mean: Floats = self.blame(rows).sum(axis=1) / self["live"][rows.slots]
        return mean

    def update(self, rows: Rows, rate: Floats) -> None:
        self["smooth"][rows.slots] = self._smoothed(rows)

    def blame(self, rows: Rows) -> Floats:
        smooth, operator = self._smoothed(rows).astype(np.float32)[:, None], self["residual"]
        left = np.empty_like(smooth)
        for part in pieces(len(rows), operator[0].size):
            np.matmul(smooth[part], operator[rows.slots[part]], out=left[part])
        residual = left[:, 0] / self["spread"][rows.slots]
        return np.asarray(np.log1p(np.clip(residual, -CLIP, CLIP).astype(np.float64) ** 2))
