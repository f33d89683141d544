"""SPOT as its paper has it, for one series of scores: the threshold of the well-known detectors.

Siffer, Fouque, Termier, Largouet, "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017.
"""

from __future__ import annotations

from collections import deque
from math import log

import numpy as np

from osdetectord.detection.slots import Floats

LEVEL = 0.98
"""Quantile of the initial batch above which excesses are modelled (the paper's ``t``)."""
MOST_PEAKS = 500
GRID = 40
LEAST_SHAPE = -0.5
"""Below, the likelihood has no regular maximum (Smith 1985, doi:10.1093/biomet/72.1.67)."""


def fit_tail(excesses: Floats) -> tuple[float, float]:
    """Return shape and scale of the generalised Pareto distribution most likely for ``excesses`` (all > 0).

    Grimshaw 1993 reduces the likelihood to one variable; it is searched on a grid, which cannot fail to converge.
    """
    mean, most = float(excesses.mean()), float(excesses.max())
    best = (-len(excesses) * (1.0 + log(max(mean, 1e-12))), (0.0, max(mean, 1e-12)))
    falling = -np.geomspace(1e-3, 0.99, GRID) / most
    rising = np.geomspace(1e-3, 1e2, GRID) / max(mean, 1e-12)
    for x in np.concatenate([falling, rising]):
        shape = float(np.log1p(x * excesses).mean())
        scale = shape / float(x)
        if scale <= 0.0 or shape < LEAST_SHAPE:
            continue
        likelihood = -len(excesses) * (log(scale) + 1.0 + shape)
        if likelihood > best[0]:
            best = (likelihood, (shape, scale))
    return best[1]


class Spot:
    """Streaming threshold for one series of scores, at risk ``q`` per row.

    Parameters
    ----------
    risk
        Probability, per row, that a normal score exceeds the threshold.
    """

    def __init__(self, risk: float) -> None:
        self._risk = risk
        self._peaks: deque[float] = deque(maxlen=MOST_PEAKS)
        self._rows, self._base = 0, 0.0
        self.threshold = np.inf

    def start(self, scores: Floats) -> None:
        """Learn from an initial batch of scores."""
        self._base = float(np.quantile(scores, LEVEL))
        self._peaks.extend(float(score) - self._base for score in scores if score > self._base)
        self._rows = len(scores)
        self._fit()

    def step(self, score: float) -> bool:
        """Return whether ``score`` exceeds the threshold; learn from it if it does not."""
        if score > self.threshold:
            return True
        self._rows += 1
        if score > self._base:
            self._peaks.append(score - self._base)
            self._fit()
        return False

    def _fit(self) -> None:
        if not self._peaks:
            self.threshold = self._base
            return
        shape, scale = fit_tail(np.array(self._peaks))
        ratio = self._risk * self._rows / len(self._peaks)
        if abs(shape) < 1e-9:
            self.threshold = self._base - scale * log(ratio)
        else:
            self.threshold = self._base + scale / shape * (ratio**-shape - 1.0)
