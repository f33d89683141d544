"""Episodes: runs of alarm told as one thing with a beginning, an end, and metrics to blame."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from osdetectord.anomaly import Blame, Episode, EpisodeKind, Phase
from osdetectord.detection.signature import Catalogue, Known, signature
from osdetectord.detection.slots import Floats

TOP_BLAMES = 5
LEAST_SHARE = 0.02
LOUDER = 1.5
"""An update is worth telling when the score has grown by half, or another metric leads."""
FURTHER = 0.1
"""Or when a metric to blame has gone further by a tenth of what was told of it."""
TELL_EVERY_ROWS = 10
MOST_ENDED = 1024


@dataclass(frozen=True, slots=True)
class Look:
    """All that is known of one series in one row, while it is in alarm or shortly after.

    Parameters
    ----------
    time_ns
        Of the row.
    alarm
        Whether the row is in alarm.
    score, p_value
        Of the row.
    u
        Shape ``(evidences,)``: calibrated scores.
    blame
        Shape ``(M,)``: each metric's part in them, summing to 1.
    deviation
        Shape ``(M,)``: signed, in spreads.
    x, low, high
        Shape ``(M,)``: sample and expected range.
    left_ns
        Shape ``(M,)``: when each metric left its range, 0 where it is within.
    """

    time_ns: int
    alarm: bool
    score: float
    p_value: float
    u: Floats
    blame: Floats
    deviation: Floats
    x: Floats
    low: Floats
    high: Floats
    left_ns: NDArray[np.int64]


class _Open:
    """An episode in progress."""

    def __init__(self, number: int, series: int, look: Look) -> None:
        self.number, self.series, self.opened_ns = number, series, look.time_ns
        self.kind, self.recurrence = EpisodeKind.ANOMALY, 0
        self.rows, self.quiet, self.told_row, self.told_score = 0, 0, 0, 0.0
        self.told, self.lead = False, ""
        self.known: Known | None = None
        """What the user judged it as, while it was open."""
        self.score, self.p_value = 0.0, 1.0
        width = len(look.x)
        self.blame, self.direction = np.zeros(width), np.zeros(width)
        self.blamed = np.zeros(width)
        """Blame up to the loudest row: what a fault leaves behind does not explain it."""
        self.worst, self.rises = np.full(width, -1.0), np.zeros(width, bool)
        self.x, self.low, self.high = look.x.copy(), look.low.copy(), look.high.copy()
        self.told_x = look.x.copy()
        self.onset = np.zeros(width, np.int64)
        self.u = np.zeros(len(look.u))

    def take(self, look: Look) -> None:
        self.quiet = 0 if look.alarm else self.quiet + 1
        if not look.alarm:
            return
        self.rows += 1
        self.blame += look.blame
        if look.score >= self.score:
            self.blamed = self.blame.copy()
        self.score, self.p_value = max(self.score, look.score), min(self.p_value, look.p_value)
        self.direction += (look.deviation - self.direction) / self.rows
        self.u = np.maximum(self.u, look.u)
        worse = np.abs(look.deviation) > self.worst
        self.worst[worse], self.rises[worse] = np.abs(look.deviation)[worse], look.deviation[worse] > 0.0
        for mine, new in ((self.x, look.x), (self.low, look.low), (self.high, look.high)):
            mine[worse] = new[worse]
        # what is expected follows a fault that lasts; against what was expected before it, this is further out
        further = np.where(self.rises, look.x > self.x, look.x < self.x)
        self.x[further] = look.x[further]
        first = (self.onset == 0) & (look.left_ns > 0)
        self.onset[first] = look.left_ns[first]


class Episodes:
    """Opens, updates, merges and closes the episodes of all series.

    Parameters
    ----------
    metrics, evidences
        Their names.
    merge_rows
        An alarm that comes back within so many rows continues the episode.
    """

    def __init__(self, metrics: tuple[str, ...], evidences: tuple[str, ...], merge_rows: int) -> None:
        self._metrics, self._evidences, self._merge_rows = metrics, evidences, merge_rows
        self._open: dict[int, _Open] = {}
        self._ended: OrderedDict[int, Known] = OrderedDict()
        self._number = 0

    def concerned(self) -> set[int]:
        """Return the series that have an episode, told or not."""
        return set(self._open)

    def drop(self, series: int) -> None:
        """Forget what is open of a series that is watched no more."""
        self._open.pop(series, None)

    def silent(self, series: int) -> bool:
        """Return whether a series has an episode that is kept quiet because the user called its like false."""
        known = self._open.get(series)
        return known is not None and not known.told

    def look(self, series: int, look: Look, catalogue: Catalogue) -> list[Episode]:
        """Take in one row of a series that is in alarm or has an episode; return what is to be told."""
        episode = self._open.get(series)
        if episode is None:
            self._number += 1
            episode = self._open[series] = _Open(self._number, series, look)
        episode.take(look)
        if episode.quiet >= self._merge_rows:
            return self._close(episode, look.time_ns, catalogue)
        if not look.alarm:
            return []
        return self._tell(episode, look.time_ns, catalogue)

    def accept(self, series: int, time_ns: int, catalogue: Catalogue) -> list[Episode]:
        """End a series' episode because what it found is the new normal; return what is to be told."""
        episode = self._open.get(series)
        if episode is None:
            return []
        told = self._close(episode, time_ns, catalogue)
        if told:
            self._number += 1
            episode.number, episode.kind = self._number, EpisodeKind.NEW_NORMAL
            told.append(self._state(episode, Phase.OPENED, time_ns))
        return told

    def mark(self, number: int, useful: bool | None, catalogues: dict[int, Catalogue]) -> bool:
        """Take the user's word on an episode, by its number, or take it back; return whether it is known here."""
        known = self._ended.get(number)
        if known is None:
            for series, episode in self._open.items():
                if episode.number == number:
                    # counted now, and so not when it ends; it is the same by its end, however it has turned
                    known = episode.known = episode.known or catalogues[series].note(signature(episode.direction))
        if known is None:
            return False
        known.word = 0 if useful is None else 1 if useful else -1
        return True

    def _tell(self, episode: _Open, time_ns: int, catalogue: Catalogue) -> list[Episode]:
        direction = signature(episode.direction)
        if not episode.told and catalogue.silenced(direction):
            return []
        lead = self._metrics[int(episode.blamed.argmax())]
        if episode.told:
            if episode.rows - episode.told_row < TELL_EVERY_ROWS:
                return []
            louder = episode.score > LOUDER * episode.told_score or lead != episode.lead
            if not louder and not self._went_further(episode):
                return []
        else:
            known = catalogue.find(direction)
            if known is not None:
                episode.kind, episode.recurrence = EpisodeKind.RECURRENCE, known.count
        phase = Phase.UPDATED if episode.told else Phase.OPENED
        episode.told, episode.lead = True, lead
        episode.told_row, episode.told_score, episode.told_x = episode.rows, episode.score, episode.x.copy()
        return [self._state(episode, phase, time_ns)]

    def _close(self, episode: _Open, time_ns: int, catalogue: Catalogue) -> list[Episode]:
        del self._open[episode.series]
        known = episode.known or catalogue.note(signature(episode.direction))
        if not episode.told:
            return []
        if known is not None:
            self._ended[episode.number] = known
            if len(self._ended) > MOST_ENDED:
                self._ended.popitem(last=False)
        return [self._state(episode, Phase.CLOSED, time_ns)]

    def _state(self, episode: _Open, phase: Phase, time_ns: int) -> Episode:
        return Episode(
            number=episode.number,
            series=episode.series,
            phase=phase,
            kind=episode.kind,
            opened_ns=episode.opened_ns,
            at_ns=time_ns,
            score=episode.score,
            p_value=episode.p_value,
            detectors=self._speakers(episode.u),
            blames=self._blames(episode),
            recurrence=episode.recurrence,
        )

    def _speakers(self, u: Floats) -> tuple[str, ...]:
        order = np.argsort(-u, kind="stable")
        return tuple(self._evidences[e] for e in order if u[e] >= 0.5 * u[order[0]] and u[e] > 0.0)

    def _went_further(self, episode: _Open) -> bool:
        moved = np.abs(episode.x - episode.told_x) > FURTHER * np.abs(episode.told_x)
        return bool(moved[self._to_blame(_shares(episode))].any())

    @staticmethod
    def _to_blame(share: Floats) -> list[int]:
        return [int(m) for m in np.argsort(-share, kind="stable")[:TOP_BLAMES] if share[m] >= LEAST_SHARE]

    def _blames(self, episode: _Open) -> tuple[Blame, ...]:
        share = _shares(episode)
        return tuple(
            Blame(
                metric=self._metrics[m],
                share=float(share[m]),
                observed=float(episode.x[m]),
                low=float(episode.low[m]),
                high=float(episode.high[m]),
                onset_ns=int(episode.onset[m]) or episode.opened_ns,
            )
            for m in self._to_blame(share)
        )


def _shares(episode: _Open) -> Floats:
    return np.asarray(episode.blamed / max(float(episode.blamed.sum()), 1e-300))
