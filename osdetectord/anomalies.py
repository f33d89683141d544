"""Anomalies: what the detector's episodes mean to people, told once when they begin and once when they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
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
    async def look(self, numbers: Iterable[int]) -> None: ...
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
        self._unsaid: set[int] = set()
        """Open anomalies that began while their target was muted, by our number: nothing more is said of them."""
        self._due: dict[int, None] = {}
        """Anomalies that opened or closed since their evidence was completed."""
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Complete evidence as anomalies open and close, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.complete()

    async def complete(self) -> None:
        """Add to the evidence of anomalies that opened or closed what must be read, by threads that may wait."""
        due, self._due = self._due, {}
        await self._look(due)
        for number in due:
            try:
                kept = await self._read_evidence(number)
                if kept:
                    text = await asyncio.to_thread(json.dumps, kept)
                    self._history.put_anomaly(self.get(number), text.encode())
            except Exception:  # as where it is begun
                logger.error("the evidence of anomaly %d can't be completed", number, exc_info=True)
            if number not in self._due and all(view.number != number for view in self.open_views()):
                self._evidence.end(number)

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
            self._history.put_anomaly(view)
            if muted:
                self._unsaid.add(view.number)
            else:
                self._tell(record.opened(view))
                self._listener.anomaly_opened(view)
            self._begin_evidence(view, member.series, expected)
            if episode.kind is EpisodeKind.NEW_NORMAL:
                self._history.put_anomaly(replace(view, state="closed", closed_us=view.opened_us))
                self._unsaid.discard(view.number)
                return
            self._open[episode.number] = (view, episode.series)
            self._episodes[view.number] = episode.number
            return
        view = self._view(episode, member, target, known[0].number)
        self._open[episode.number] = (view, episode.series)
        self._history.put_anomaly(view)
        if view.number not in self._unsaid:
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

    async def evidence(self, number: int) -> bytes:
        """Return what an anomaly rests on, as JSON, empty where nothing was kept; raises :class:`NoSuchTarget`."""
        view = self.get(number)
        await self._look((number,))
        try:
            kept = await self._read_evidence(number)
        except Exception:
            logger.error("the evidence of anomaly %d can't be read", number, exc_info=True)
            return b""
        return json.dumps({**kept, "anomaly": asdict(view)}).encode() if kept else b""

    def open_views(self) -> list[AnomalyView]:
        """Return what is open now."""
        return [view for view, _ in self._open.values()]

    def judge(self, number: int, useful: bool | None) -> int | None:
        """Note the user's word, None for none; returns the detector's number of the episode while it knows it."""
        view = replace(self.get(number), useful="" if useful is None else "yes" if useful else "no")
        for episode, (known, series) in self._open.items():
            if known.number == number:
                self._open[episode] = (view, series)
        self._history.put_anomaly(view)
        self._listener.anomaly_updated(view)
        return self._episodes.get(number)

    def _close(self, number: int, view: AnomalyView, why: str) -> None:
        self._open.pop(number, None)
        view = replace(view, state="closed", closed_us=view.closed_us or wall.now_us())
        self._history.put_anomaly(view)
        if view.number not in self._unsaid:
            self._tell(record.closed(view, why))
            self._listener.anomaly_closed(view)
        self._unsaid.discard(view.number)
        self._complete_soon(view.number)

    def _begin_evidence(self, view: AnomalyView, series: int, expected: Expected | None) -> None:
        try:
            gathered = self._evidence.begin(view, series, expected)
            self._history.put_anomaly(view, json.dumps({"anomaly": asdict(view), **gathered}).encode())
        except Exception:  # an anomaly is told whatever becomes of what only adorns it
            logger.error("the evidence of anomaly %d can't be gathered", view.number, exc_info=True)
        self._complete_soon(view.number)

    def _complete_soon(self, number: int) -> None:
        self._due[number] = None
        self._wake.set()

    async def _look(self, numbers: Iterable[int]) -> None:
        try:
            await self._evidence.look(numbers)
        except Exception:  # what is at hand is told then
            logger.error("what anomalies change can't be read", exc_info=True)

    async def _read_evidence(self, number: int) -> dict[str, Any]:
        """Return the evidence that was kept with what is known since the last look, empty where there is none."""
        kept = await asyncio.to_thread(lambda: json.loads(self._history.evidence(number) or b"{}"))
        return self._evidence.refreshed(number, kept) if kept else {}

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
