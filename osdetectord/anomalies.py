"""Anomalies: what the detector's episodes mean to people, told once when they begin and once when they end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from osdetectord import record, wall
from osdetectord.anomaly import Blame, Episode, EpisodeKind, Phase
from osdetectord.core import AnomalyView, BlameView, Listener
from osdetectord.errors import NoSuchTarget
from osdetectord.history import History
from osdetectord.logger import get_logger
from osdetectord.record import Record
from osdetectord.watching import Member, Target

Expected = tuple[NDArray[np.float64], NDArray[np.float64]]
logger = get_logger()


class Gathering(Protocol):
    """Gathers evidence; :class:`osdetectord.evidence.Evidence` is it."""

    def begin(self, view: AnomalyView, series: int, expected: Expected | None) -> dict[str, Any]: ...
    def refreshed(self, number: int, old: Mapping[str, Any]) -> dict[str, Any]: ...
    def end(self, number: int) -> None: ...


class Anomalies:
    """All anomalies, open ones in hand and the rest in the history.

    Parameters
    ----------
    history
        Keeps them.
    units
        Of samples, by name of the metric.
    tell
        Sends a record to the journal.
    listener
        Hears of each change.
    evidence
        Gathers what each rests on.
    """

    def __init__(
        self,
        history: History,
        units: Mapping[str, str],
        tell: Callable[[Record], None],
        listener: Listener,
        evidence: Gathering,
    ) -> None:
        self._history, self._tell, self._listener, self._evidence = history, tell, listener, evidence
        self._units = units
        self._open: dict[int, tuple[AnomalyView, int]] = {}
        """Open anomalies and their series, by the detector's number of the episode."""
        self._episodes: dict[int, int] = {}
        """The detector's number of an episode, by ours, while the same detector lives."""
        self._next = history.last_anomaly() + 1

    def heard(self, episode: Episode, member: Member, target: Target, expected: Expected | None) -> None:
        """Take in what the detector says of an episode of a target's process, or of a part of it.

        ``expected`` are the ranges of the process's own metrics.
        """
        known = self._open.get(episode.number)
        if episode.phase is Phase.CLOSED:
            if known is not None:
                self._close(episode.number, self._view(episode, member, target, known[0].number), "")
            return
        if known is None:
            view = self._view(episode, member, target, self._next)
            self._next += 1
            muted = wall.now_us() < target.muted_until_us
            gathered = self._evidence.begin(view, member.series, expected)
            self._keep(view, json.dumps({"anomaly": asdict(view), **gathered}).encode())
            if not muted:
                self._tell(record.opened(view))
                self._listener.anomaly_opened(view)
            if episode.kind is EpisodeKind.NEW_NORMAL:
                self._evidence.end(view.number)
                self._keep(replace(view, state="closed", closed_us=view.opened_us))
                return
            self._open[episode.number] = (view, episode.series)
            self._episodes[view.number] = episode.number
            return
        view = self._view(episode, member, target, known[0].number)
        self._open[episode.number] = (view, episode.series)
        self._keep(view)
        self._listener.anomaly_updated(view)

    def ended(self, series: int, why: str) -> None:
        """Close what is open of a process that ended or is watched no more."""
        for number, (view, of) in list(self._open.items()):
            if of == series:
                self._close(number, view, why)

    def detector_lost(self, why: str) -> None:
        """Close everything: the detector that would have told its end is gone."""
        for number, (view, _) in list(self._open.items()):
            self._close(number, view, why)
        self._episodes.clear()

    def get(self, number: int) -> AnomalyView:
        """Return an anomaly; raises :class:`NoSuchTarget`."""
        view = self._history.anomaly(number)
        if view is None:
            raise NoSuchTarget(f"no anomaly {number}")
        return view

    def evidence(self, number: int) -> bytes:
        """Return what an anomaly rests on, as JSON, empty where nothing was kept; raises :class:`NoSuchTarget`."""
        view = self.get(number)
        kept = self._history.evidence(number)
        if not kept:
            return b""
        return json.dumps({**self._evidence.refreshed(number, json.loads(kept)), "anomaly": asdict(view)}).encode()

    def open_views(self) -> list[AnomalyView]:
        """Return what is open now."""
        return [view for view, _ in self._open.values()]

    def judge(self, number: int, useful: bool | None) -> int | None:
        """Note the user's word, None for none; returns the detector's number of the episode while it knows it."""
        view = replace(self.get(number), useful="" if useful is None else "yes" if useful else "no")
        for episode, (known, series) in self._open.items():
            if known.number == number:
                self._open[episode] = (view, series)
        self._keep(view)
        self._listener.anomaly_updated(view)
        return self._episodes.get(number)

    def _close(self, number: int, view: AnomalyView, why: str) -> None:
        self._open.pop(number, None)
        view = replace(view, state="closed", closed_us=view.closed_us or wall.now_us())
        kept = self._history.evidence(view.number)
        self._keep(view, json.dumps(self._evidence.refreshed(view.number, json.loads(kept))).encode() if kept else None)
        self._evidence.end(view.number)
        self._tell(record.closed(view, why))
        self._listener.anomaly_closed(view)

    def _keep(self, view: AnomalyView, evidence: bytes | None = None) -> None:
        try:
            self._history.put_anomaly(view, evidence)
        except OSError as error:
            logger.error("%s", error)

    def _view(self, episode: Episode, member: Member, target: Target, number: int) -> AnomalyView:
        old = self._open.get(episode.number)
        view = AnomalyView(
            number=number,
            target=target.number,
            spec=str(target.spec),
            pid=member.process.pid,
            comm=member.comm,
            state="open",
            kind=episode.kind.value,
            opened_us=wall.of_monotonic_us(episode.opened_ns),
            closed_us=wall.of_monotonic_us(episode.at_ns) if episode.phase is Phase.CLOSED else 0,
            score=episode.score,
            p_value=episode.p_value,
            detectors=episode.detectors,
            blames=tuple(self._blame(blame) for blame in episode.blames) or (old[0].blames if old else ()),
            message="",
            recurrence=episode.recurrence,
            useful=old[0].useful if old else "",
        )
        return replace(view, message=old[0].message if old else record.sentence(view))

    def _blame(self, blame: Blame) -> BlameView:
        # no metric of a process is negative, whatever the spread of its past says
        low, high = max(0.0, blame.low), max(0.0, blame.high)
        unit, onset_us = self._units.get(blame.metric, ""), wall.of_monotonic_us(blame.onset_ns)
        return BlameView(blame.metric, unit, blame.share, blame.observed, low, high, onset_us)
