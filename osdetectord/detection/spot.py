"""SPOT and DSPOT: thresholds from extreme value theory that follow a stream, for all series at once.

Siffer, Fouque, Termier, Largouet, "Anomaly Detection in Streams with Extreme Value Theory", KDD 2017,
doi:10.1145/3097983.3098144.
"""

from __future__ import annotations

import numpy as np

from osdetectord.detection.pieces import pieces
from osdetectord.detection.slots import Bools, Floats, SlotArrays, Slots

START_ROWS = 600
"""Rows of the initial batch; until it is full there is no threshold."""
QUANTILE = 0.98
"""Of the initial batch, above which excesses are modelled (the paper's ``t``)."""
MOST_PEAKS = 200
"""Excesses that are kept of each series: the last ones."""
GRID = 40
NOTHING = 1e-12


def fit_tails(excesses: Floats, censored: Bools) -> tuple[Floats, Floats]:
    """Return shapes and scales of the generalised Pareto distributions most likely for some samples.

    Grimshaw 1993 (doi:10.1080/00401706.1993.10485040) reduces the likelihood to one variable, which is searched on a
    grid that cannot fail to converge; with censored samples the reduction is alike.  Tails that end somewhere, those of
    negative shape, are not believed: where a dozen samples seem to end says nothing.

    Parameters
    ----------
    excesses
        Shape ``(K, P)``, one sample a row, all > 0; NaN where there is none, and not in the whole row.
    censored
        Shape ``(K, P)``: where an excess is known only to be larger than what ``excesses`` says.

    Returns
    -------
    tuple
        Two arrays of shape ``(K,)``; a shape of 0 is an exponential distribution.
    """
    values = np.where(np.isfinite(excesses), excesses, 0.0)
    exact = np.isfinite(excesses) & ~censored
    count = np.maximum(exact.sum(axis=1), 1)
    mean = np.maximum(values.sum(axis=1) / count, NOTHING)
    x = np.geomspace(1e-3, 1e2, GRID) / mean[:, None]
    # what is not known counts as 0 and adds nothing
    logs = np.log1p(x[:, :, None] * values[:, None, :])
    shape = logs.sum(axis=2) / count[:, None]
    likelihood = -np.log(shape / x) - 1.0 - (logs * exact[:, None, :]).sum(axis=2) / count[:, None]
    best, series = likelihood.argmax(axis=1), np.arange(len(x))
    heavy = likelihood[series, best] > -np.log(mean) - 1.0
    shape = shape[series, best]
    return np.where(heavy, shape, 0.0), np.where(heavy, shape / x[series, best], mean)


class Spot(SlotArrays):
    """Streaming thresholds of scores, each at the same risk per row.

    In the paper a score above the threshold teaches nothing.  But then the tail seems to end there, the threshold comes
    down, and more and more is called abnormal: here such a score teaches that it was above, but not how far.

    Parameters
    ----------
    risk
        Probability, per row, that a normal score exceeds the threshold; in ``(0, 1)``.
    depth
        Rows of the moving average that is subtracted first (DSPOT); 0 for SPOT.
    """

    name = "spot"

    def __init__(self, risk: float, depth: int = 0) -> None:
        super().__init__()
        self._risk, self._depth = risk, depth
        self.declare("rows", (), np.int64)
        self.declare("start", (START_ROWS,), np.float32)
        self.declare("base")
        self.declare("peaks", (MOST_PEAKS,), np.float32, np.nan)
        self.declare("censored", (MOST_PEAKS,), np.bool_)
        self.declare("seen", (), np.int64)
        self.declare("own", fill=np.nan)
        self.declare("recent", (depth,), np.float32)
        self.declare("averaged", (), np.int64)

    def threshold(self, slots: Slots) -> Floats:
        """Return shape ``(K,)``, in the unit of the scores; NaN while a series' initial batch is not full."""
        return np.asarray(self["own"][slots] + self._average(slots))

    def learn(self, slots: Slots, scores: Floats, censored: Bools) -> None:
        """Take in one score of each series, shape ``(K,)``; where ``censored``, a bound that it was above."""
        relative = scores - self._average(slots)
        rows = self["rows"][slots]
        self["rows"][slots] += 1
        if self._depth:
            self["recent"][slots, self["averaged"][slots] % self._depth] = scores
            self["averaged"][slots] += 1
        starting = rows < START_ROWS
        self["start"][slots[starting], rows[starting]] = relative[starting]
        started = slots[rows == START_ROWS - 1]
        self._begin(started)
        high = ~starting & (relative > self["base"][slots])
        above = slots[high]
        place = self["seen"][above] % MOST_PEAKS
        self["peaks"][above, place] = relative[high] - self["base"][above]
        self["censored"][above, place] = censored[high]
        self["seen"][above] += 1
        self._fit(np.concatenate([started, above]))

    def _average(self, slots: Slots) -> Floats:
        """Return what is subtracted from the scores."""
        if not self._depth:
            return np.zeros(len(slots))
        count = np.minimum(self["averaged"][slots], self._depth)
        return np.asarray(self["recent"][slots].sum(axis=1, dtype=np.float64) / np.maximum(count, 1))

    def _begin(self, slots: Slots) -> None:
        """Take the initial batch's excesses over its quantile as the first peaks."""
        if not len(slots):
            return
        start = self["start"][slots]
        base = np.quantile(start, QUANTILE, axis=1)
        self["base"][slots] = base
        most = np.sort(start, axis=1)[:, -MOST_PEAKS:] - base[:, None]
        self["peaks"][slots] = np.nan
        self["peaks"][slots, : most.shape[1]] = np.where(most > 0.0, most, np.nan)[:, ::-1]
        self["seen"][slots] = (most > 0.0).sum(axis=1)

    def _fit(self, slots: Slots) -> None:
        """Find the thresholds of series whose peaks are others than before."""
        for part in pieces(len(slots), GRID * MOST_PEAKS):
            some = slots[part]
            some = some[self["seen"][some] > 0]
            shape, scale = fit_tails(self["peaks"][some].astype(np.float64), self["censored"][some])
            # one in so many excesses; within the modelled tail, not below it
            ratio = np.minimum(self._risk * self["rows"][some] / self["seen"][some], 1.0)
            # where the scale is known from n samples, the next excess of an exponential tail has the shape 1 / n
            shape += 1.0 / np.minimum(self["seen"][some], MOST_PEAKS)
            self["own"][some] = self["base"][some] + scale * (ratio**-shape - 1.0) / shape
        level = slots[self["seen"][slots] == 0]
        self["own"][level] = self["base"][level]
