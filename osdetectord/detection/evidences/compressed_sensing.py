"""Compressed sensing: how far a process is from what the ordinary part of its recent past implies."""

from __future__ import annotations

from typing import ClassVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.basis_pursuit import basis_pursuit, cosine_basis
from osdetectord.detection.evidence import Evidence, Options, Past, Rows, Setup
from osdetectord.detection.lesinn import choose_rows, outlierness
from osdetectord.detection.shape_cluster import cluster, shape_distance
from osdetectord.detection.slots import Floats

REFERENCE = 128
"""Past rows against which LESINN holds a new one."""
CLUSTER_ROWS = 600
"""Shapes are compared over at most this many of the last rows."""
MAX_SHIFT = 5
"""Rows by which one metric may follow another and still be of the same shape."""
LEAST_WINDOW = 16
"""Rows after a gap from which the window is rebuilt again; until then what was expected stays."""
REPLAY = 20
"""Rows after which the smoothed residual has forgotten its start."""
SEED = 20210714
"""Of the noise that draws the samples: fixed, so that the same rows give the same score."""


class CompressedSensing(Evidence):
    """Smoothed distance from the least-L1 reconstruction of the window, extended to the present row.

    JumpStarter (Ma et al., "Jump-Starting Multivariate Time Series Anomaly Detection for Online Service Systems",
    USENIX ATC 2021): metrics of one shape form a group; of the last ``window`` rows a part is sampled, outlying rows
    less often the more they outlie (LESINN); the window is rebuilt from the samples alone, as the one with the
    sparsest cosine spectrum.

    What is other here, and why:

    * Causal: a row is held against a reconstruction that ends before it.
    * The paper rebuilds a group of metrics jointly, over a two-dimensional cosine basis.  All its metrics are
      sampled at the same rows, so a cosine transform across the group takes the problem apart into one per
      column, with the same minimiser; joint costs no more than separate.
    * Rows are compared with the process's long past, not with the window: during a fault the samples then lie
      before it, so that the fault does not become what is expected, until no older rows are left.
    """

    name = "compressed_sensing"
    options: ClassVar[Options] = {
        "window": (60, 16, 512),
        "sample_rate": (0.4, 0.05, 0.9),
        "resistance": (4.0, 0.0, 50.0),
        "patterns": (1, 1, 8),
        "every": (15, 1, 1000),
        "similarity": (0.7, 0.0, 1.0),
        "smoothing": (0.3, 0.01, 1.0),
        "tolerance": (0.05, 1e-4, 0.5),
    }
    min_rows = 60
    typical = (-1.1, 0.48)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        options = setup.options
        self._window = int(options["window"])
        self._every = int(options["every"])
        self._alpha = options["smoothing"]
        # Rows of minutes: a window is hours long, within which a service finds a new normal.
        self._resistance = options["resistance"] / (8 if setup.slow else 1)
        self._stride = max(1, setup.memory_rows // REFERENCE)
        self._noise = np.random.default_rng(SEED).random((int(options["patterns"]), self._window))
        self.declare("rows", (self._window, setup.metrics), np.float32)
        self.declare("outlierness", (self._window, setup.metrics), np.float32, np.nan)
        self.declare("filled", (), np.int64)
        self.declare("seen", (), np.int64)
        self.declare("turn", (), np.int64)
        self.declare("group", (setup.metrics,), np.int32)
        self.declare("reference", (REFERENCE, setup.metrics), np.float32)
        self.declare("known", (), np.int64)
        self.declare("clock", ())
        self.declare("expected", (setup.metrics,))
        self.declare("residual", (setup.metrics,))

    def learn(self, past: Past) -> None:
        self.clear(past.slots)
        length = len(past)
        chosen = np.unique(np.linspace(0, length - 1, REFERENCE).astype(int))
        window = past.z[:, -self._window :]
        for k, slot in enumerate(past.slots):
            distance = shape_distance(past.z[k, -CLUSTER_ROWS:], MAX_SHIFT)
            self["group"][slot] = cluster(distance, 1.0 - self.setup.options["similarity"])
            self["reference"][slot, : len(chosen)] = past.z[k, chosen]
            self["rows"][slot, : window.shape[1]] = window[k]
        self["known"][past.slots] = len(chosen)
        self["filled"][past.slots] = self["seen"][past.slots] = window.shape[1]
        for k, slot in enumerate(past.slots):
            self._reconstruct(int(slot))
            # series that were fitted together take turns, told by their data and not by their neighbours
            self["turn"][slot] = crc32(past.z[k].tobytes()) % self._every
        residual = np.zeros_like(self["residual"][past.slots])
        for t in range(max(0, length - REPLAY), length):
            residual += self._alpha * (past.z[:, t] - self["expected"][past.slots] - residual)
        self["residual"][past.slots] = residual

    def _residual(self, rows: Rows) -> Floats:
        residual = np.where(rows.fresh[:, None], 0.0, self["residual"][rows.slots])
        now: Floats = residual + self._alpha * (rows.z - self["expected"][rows.slots] - residual)
        return now

    def score(self, rows: Rows) -> Floats:
        total: Floats = self.blame(rows).mean(axis=1)
        return total

    def blame(self, rows: Rows) -> Floats:
        known = self["known"][rows.slots] > 0
        return np.where(known[:, None], np.log1p(self._residual(rows) ** 2), 0.0)

    def update(self, rows: Rows, rate: Floats) -> None:
        slots = rows.slots
        self["residual"][slots] = self._residual(rows)
        self["filled"][slots[rows.fresh]] = 0
        place = self["seen"][slots] % self._window
        self["clock"][slots] += rate
        due = (self["clock"][slots] >= self._stride) & (self["filled"][slots] == self._window)
        due &= self["known"][slots] > 0
        # the row that leaves the window is old enough to be a reference: a fault does not vouch for itself
        into, leaving = slots[due], self["rows"][slots[due], place[due]]
        self["reference"][into, self["known"][into] % REFERENCE] = leaving
        self["known"][into] += 1
        self["clock"][into] = 0.0
        self["rows"][slots, place] = rows.z
        self["outlierness"][slots, place] = np.nan
        self["seen"][slots] += 1
        self["filled"][slots] = np.minimum(self["filled"][slots] + 1, self._window)
        for slot in slots[(self["seen"][slots] + self["turn"][slots]) % self._every == 0]:
            self._reconstruct(int(slot))

    def _reconstruct(self, slot: int) -> None:
        """Renew what is expected of the next rows of one series.

        One series at a time: products of matrices round differently when others stand beside them.
        """
        filled, known = int(self["filled"][slot]), min(int(self["known"][slot]), REFERENCE)
        if filled < LEAST_WINDOW or known == 0:
            return
        order = (self["seen"][slot] - filled + np.arange(filled)) % self._window
        window, scores = self["rows"][slot, order], self["outlierness"][slot, order]
        _, group = np.unique(self["group"][slot], return_inverse=True)
        member = np.eye(group.max() + 1, dtype=np.float32)[group]
        new = np.isnan(scores[:, 0])
        reference = self["reference"][slot, :known]
        squares = (window[new][:, None] - reference[None]) ** 2 @ (member / member.sum(axis=0))
        # distances per group are root mean squares, so that large groups do not count as far by their size
        scores[new] = outlierness(np.sqrt(squares).transpose(0, 2, 1))[:, group]
        self["outlierness"][slot, order[new]] = scores[new]
        mixing = _across_groups(group)
        mixed = (window @ mixing).astype(np.float32)
        samples = max(2, round(self.setup.options["sample_rate"] * filled))
        last = cosine_basis(filled)[-1]
        now = np.zeros(self.setup.metrics)
        for noise in self._noise:
            sampled = choose_rows(scores.T.astype(np.float64), samples, self._resistance, noise[-filled:]).T
            now += last @ basis_pursuit(mixed, sampled, self.setup.options["tolerance"]).spectrum
        self["expected"][slot] = np.clip(mixing @ now / len(self._noise), -12.0, 12.0)


def _across_groups(group: NDArray[np.intp]) -> Floats:
    """Return the orthonormal matrix that takes rows of metrics to cosine coefficients across each group."""
    mixing = np.zeros((len(group), len(group)))
    for number in np.unique(group):
        members = np.flatnonzero(group == number)
        mixing[np.ix_(members, members)] = cosine_basis(len(members))
    return mixing
