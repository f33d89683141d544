"""An evidence: one way to see that a process behaves abnormally, computed for all processes at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from osdetectord.detection.slots import Bools, Floats, SlotArrays, Slots

Options = Mapping[str, tuple[float, float, float]]
"""Tuning keys of an evidence: ``key: (default, lowest, highest)``."""

SLOW_INTERVAL_S = 30.0
"""Rows so far apart or further show load by the day and no longer single requests."""


@dataclass(frozen=True, slots=True)
class Rows:
    """One row of K series, at one instant, each made comparable with its own past.

    Parameters
    ----------
    slots
        Shape ``(K,)``, without repeats: where each series keeps its state, in ``[0, capacity)``.
    x
        Shape ``(K, M)``, samples in their metric's sample unit.  Finite: a missing sample repeats the last one.
    z
        Shape ``(K, M)``, ``(asinh(x / natural size) - centre) / spread`` with robust centre and spread learnt from
        the series' past, clipped to ``[-12, 12]``; 0 for a metric that never varied and does not now.
    load
        Shape ``(K,)``, how much work the process was given, in nats from the median of the past and at most what is
        ordinary (:class:`~osdetectord.detection.load.Load`); NaN where its metrics do not tell.
    fresh
        Shape ``(K,)``, True in the first row after a gap: what is smoothed or windowed over time must start anew,
        what was learnt stays.
    """

    slots: Slots
    x: Floats
    z: Floats
    load: Floats
    fresh: Bools

    def __len__(self) -> int:
        return len(self.slots)

    def pick(self, which: Bools | Slots) -> Rows:
        """Return the rows of some of the series."""
        return Rows(self.slots[which], self.x[which], self.z[which], self.load[which], self.fresh[which])


@dataclass(frozen=True, slots=True)
class Past:
    """The past of K series, oldest row first, all of the same length T.

    Parameters
    ----------
    slots
        Shape ``(K,)``, as in :class:`Rows`.
    x, z
        Shape ``(K, T, M)``, as in :class:`Rows`; scaled with what this very past taught.
    load
        Shape ``(K, T)``, as in :class:`Rows`.
    """

    slots: Slots
    x: Floats
    z: Floats
    load: Floats

    def __len__(self) -> int:
        return self.z.shape[1]

    def live(self) -> Floats:
        """Return shape ``(K,)``: how many metrics varied, and no fewer than an eighth of them."""
        varied = (np.ptp(self.z, axis=1) > 0.0).sum(axis=1)
        return np.asarray(np.maximum(varied, self.z.shape[2] / 8.0))

    def part(self, start: int, stop: int) -> Past:
        """Return rows ``start`` to ``stop`` of every series."""
        return Past(self.slots, self.x[:, start:stop], self.z[:, start:stop], self.load[:, start:stop])

    def row(self, t: int) -> Rows:
        """Return row ``t`` as it was seen live."""
        return Rows(self.slots, self.x[:, t], self.z[:, t], self.load[:, t], np.full(len(self.slots), t == 0))


@dataclass(frozen=True, slots=True)
class Setup:
    """What every evidence is told once.

    Parameters
    ----------
    metrics
        Number M of metrics.
    interval_s
        Seconds between rows; time constants follow it.
    memory_rows
        How many past rows are worth remembering.
    options
        This evidence's own tuning from ``detectors.yml``, already checked against ``options`` of its class.
    """

    metrics: int
    interval_s: float
    memory_rows: int
    options: Mapping[str, float]

    @property
    def slow(self) -> bool:
        """Whether a row is minutes long: hours and days are then the natural time scale, not seconds."""
        return self.interval_s >= SLOW_INTERVAL_S


class Evidence(SlotArrays, ABC):
    """Base of all evidences: state per series in slots, learning apart from scoring.

    How the engine uses one, per series: ``clear`` its slot; collect rows until the warm-up is over; ``fit`` on all
    of them (and again on a longer past later, which replaces all that was learnt); then for each row first ``score``
    and afterwards ``update`` with the same rows.  Series come and go, so any subset of slots may take part in a call.

    Whoever writes one:

    * declares in ``__init__`` every array that it keeps with :meth:`declare`; its first axis is the slot and is
      grown by the engine; what is large and only some series need, with :meth:`declare_for_some`.  All this is saved,
      restored and cleared by this class; nothing else may be state.
      ``self["name"]`` is the array; fetch it anew in every call, since growth replaces it.
    * implements :meth:`learn`, :meth:`score` and :meth:`update`, vectorised over the K rows.
    * may read no clock and no global random state: the same rows give the same numbers, whoever else is watched.
      Work that is too long for one tick may be spread over the series' own ``update`` calls.
    * raises nothing for any finite input.
    """

    name: str
    """As in ``detectors.yml``, lower case with underscores."""
    options: ClassVar[Options] = {}
    """Tuning keys: ``key: (default, lowest, highest)``."""
    min_rows: int = 30
    """Rows of past that :meth:`fit` needs; with less the evidence stays silent."""

    typical: ClassVar[tuple[float, float] | None] = None
    """Median and robust spread of the score's logarithm in normal times, where the scale is the same for every
    process; the calibration starts from them."""

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.setup = setup

    @classmethod
    def absent(cls) -> str:
        """Return why this evidence cannot run here (a library lacks), or nothing."""
        return ""

    def fit(self, past: Past) -> Floats:
        """Replace all that was learnt by what ``past`` teaches, ready for the row that follows it.

        Returns
        -------
        Floats
            Shape ``(K, T)``: the score of each past row as it would have been live, NaN where the row itself was
            learnt from.  Its distribution calibrates the evidence.  Here: learn from the first half, score the
            second, then learn from all.
        """
        half = len(past) // 2
        scores = np.full(past.z.shape[:2], np.nan)
        rate = np.ones(len(past.slots))
        self.learn(past.part(0, half))
        for t in range(half, len(past)):
            rows = past.row(t)
            scores[:, t] = self.score(rows)
            self.update(rows, rate)
        self.learn(past)
        return scores

    @abstractmethod
    def learn(self, past: Past) -> None:
        """Replace all state of ``past.slots`` by what ``past`` teaches; running windows end at its last row."""

    @abstractmethod
    def score(self, rows: Rows) -> Floats:
        """Return shape ``(K,)`` in ``[0, inf)``, high = abnormal; NaN where there is nothing to say.  Changes nothing.

        The scale is the evidence's own; the engine calibrates it on the series' own history, on a log scale.
        Smooth over a few rows where single rows are noisy: short delay matters, but so does quiet.
        """

    @abstractmethod
    def update(self, rows: Rows, rate: Floats) -> None:
        """Advance running windows by these rows, and learn from them.

        Parameters
        ----------
        rows
            The rows that were just scored.
        rate
            Shape ``(K,)``: how fast to learn, 1 normally, less in an alarm, more when a new normal is accepted.
            Windows advance whatever the rate.
        """

    def blame(self, rows: Rows) -> Floats:
        """Return shape ``(K, M)``, each metric's part in the score, non-negative in any unit.  Changes nothing."""
        return np.abs(rows.z)
