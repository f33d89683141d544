"""The journal's records: their sentences, priorities, ids and fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from osdetectord import wall
from osdetectord.core import AnomalyView, BlameView
from osdetectord.quantity import quantity, span

NOTICE, WARNING, ERROR = 5, 4, 3

# A fixed id per kind of record; the catalogue has a text for each (journalctl -x).
ANOMALY_OPENED: Final = "0ad3a6ef2c7b4a0f9f6b5cf7c1d1b9a1"
ANOMALY_CLOSED: Final = "4e0d0ea2b1a94f04b1b0a3c1d2f7e6b2"
TARGET_EXITED: Final = "7b8d1c2e93f54a68a0c4d1e5f6a7b8c3"
BLIND_TIME: Final = "9c1f2e3d4b5a46879a8b7c6d5e4f3a24"
WORKER_LOST: Final = "2d4c6b8a1f3e45d7b9c8a7e6f5d4c3b5"
CONFIG_REFUSED: Final = "5f6e7d8c9b0a4c1d8e2f3a4b5c6d7e86"
NEW_NORMAL: Final = "8a7b6c5d4e3f42019f8e7d6c5b4a3927"
LOSSES: Final = "c3d2e1f0a9b84756b5a4938271605f48"
OVER_BUDGET: Final = "e1a2b3c4d5f64708918273645a6b7c59"


@dataclass(frozen=True, slots=True)
class Record:
    """One record: sentence, priority as in syslog(3), and fields."""

    message: str
    priority: int
    fields: dict[str, Any] = field(default_factory=dict)


def sentence(anomaly: AnomalyView) -> str:
    """Return what happened in one sentence."""
    head = f"{anomaly.comm}[{anomaly.pid}]: "
    tail = f"(score {anomaly.score:.1f}, p {anomaly.p_value:.0e})"
    if not anomaly.blames:
        return f"{head}behaves abnormally since {wall.clock(anomaly.opened_us)} {tail}"
    told = _worth_telling(anomaly.blames)
    first = told[0]
    word = "new normal: " if anomaly.kind == "new-normal" else ""
    if first.within:
        # what it does together was not seen before, though each by itself was
        text = f"{head}{word}unusual combination: {_listed(told)} since {wall.clock(first.onset_us)}"
    else:
        text = f"{head}{word}{_told(first)} since {wall.clock(first.onset_us)}"
        text += f"; also {_listed(told[1:])}" if told[1:] else ""
    if anomaly.recurrence:
        text += f"; seen {anomaly.recurrence} time{'s' if anomaly.recurrence > 1 else ''} before"
    return f"{text} {tail}"


def opened(anomaly: AnomalyView) -> Record:
    """Return the record of an anomaly that begins (or of a new normal)."""
    new_normal = anomaly.kind == "new-normal"
    message_id = NEW_NORMAL if new_normal else ANOMALY_OPENED
    return Record(anomaly.message, NOTICE if new_normal else WARNING, {"MESSAGE_ID": message_id, **_fields(anomaly)})


def closed(anomaly: AnomalyView, why: str = "") -> Record:
    """Return the record of an anomaly that ends; ``why`` where it was not by going back to normal."""
    lasted = quantity((anomaly.closed_us - anomaly.opened_us) / 1e6, "s")
    reason = why or "normal again"
    message = f"{anomaly.comm}[{anomaly.pid}]: {reason} after {lasted} (peak score {anomaly.score:.1f})"
    return Record(message, NOTICE, {"MESSAGE_ID": ANOMALY_CLOSED, **_fields(anomaly)})


def ending(code: int, signal: int, core: bool) -> str:
    """Return how a process ended."""
    if signal:
        return f"killed by signal {signal}{' (core dumped)' if core else ''}"
    # a daemon that only polls sees that a process ended, not how
    return f"ended with status {code}" if code >= 0 else "ended"


def exited(spec: str, comm: str, pid: int, code: int, signal: int, core: bool) -> Record:
    """Return the record of a watched process that ended."""
    fields = {
        "MESSAGE_ID": TARGET_EXITED,
        "OSDETECTOR_TARGET": spec,
        "OSDETECTOR_PROCESS": f"{comm}[{pid}]",
        "OSDETECTOR_EXIT_CODE": code,
        "OSDETECTOR_EXIT_SIGNAL": signal,
    }
    said = f"{comm}[{pid}] of {spec} {ending(code, signal, core)}"
    return Record(said, WARNING if signal or code else NOTICE, fields)


def over_budget(instrument: str, location: str, scope: str, rate: float, budget: int) -> Record:
    """Return the record of a probe or trace that was detached because it was called too often."""
    fields = {
        "MESSAGE_ID": OVER_BUDGET,
        "OSDETECTOR_INSTRUMENT": instrument,
        "OSDETECTOR_LOCATION": location,
        "OSDETECTOR_SCOPE": scope,
        "OSDETECTOR_RATE": f"{rate:.0f}",
        "OSDETECTOR_BUDGET": budget,
    }
    message = f"{instrument} is detached: {location} was called {rate:.0f} times a second, its budget is {budget}"
    return Record(message, WARNING, fields)


def _worth_telling(blames: Sequence[BlameView]) -> list[BlameView]:
    """Return what the sentence names: what left its range before what is within it, else by its share."""
    loud = [blames[0], *(blame for blame in blames[1:4] if blame.share >= blames[0].share / 4)]
    return sorted(loud, key=lambda blame: blame.within)


def _listed(blames: Sequence[BlameView]) -> str:
    return ", ".join(f"{blame.metric} {_size(blame)}" for blame in blames)


def _told(blame: BlameView) -> str:
    unit = blame.unit
    return f"{blame.metric} {quantity(blame.observed, unit)}, expected {span(blame.low, blame.high, unit)}"


def _size(blame: BlameView) -> str:
    word = "within" if blame.within else "expected"
    return f"{quantity(blame.observed, blame.unit)} ({word} {span(blame.low, blame.high, blame.unit)})"


def _fields(anomaly: AnomalyView) -> dict[str, Any]:
    first = _worth_telling(anomaly.blames)[0] if anomaly.blames else None
    return {
        "OBJECT_PID": anomaly.pid,
        "OSDETECTOR_ANOMALY_ID": anomaly.number,
        "OSDETECTOR_TARGET": anomaly.spec,
        "OSDETECTOR_PROCESS": f"{anomaly.comm}[{anomaly.pid}]",
        "OSDETECTOR_KIND": anomaly.kind,
        "OSDETECTOR_METRICS": " ".join(f"{b.metric}={b.share:.2f}" for b in anomaly.blames),
        "OSDETECTOR_SCORE": f"{anomaly.score:.3f}",
        "OSDETECTOR_P_VALUE": f"{anomaly.p_value:.3e}",
        "OSDETECTOR_DETECTORS": " ".join(anomaly.detectors),
        "OSDETECTOR_OBSERVED": quantity(first.observed, first.unit) if first else None,
        "OSDETECTOR_EXPECTED": span(first.low, first.high, first.unit) if first else None,
        "OSDETECTOR_SINCE": wall.clock(first.onset_us if first else anomaly.opened_us),
        "OSDETECTOR_RECURRENCE": anomaly.recurrence or None,
        "OSDETECTOR_EVIDENCE": f"osdctl explain {anomaly.number}",
    }
