"""An event as one line, as the log, the followers and the summary of a run write it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from osdctl.model import Anomaly
from osdctl.text import Colour, Look, as_json, duration, moment, number, shown

_COLOURS = {"opened": Colour.RED, "closed": Colour.GREEN, "updated": Colour.NONE, "exited": Colour.YELLOW}


def anomaly_line(phase: str, anomaly: Anomaly, look: Look) -> str:
    """Return the line of an anomaly that was opened, updated or closed."""
    time_us = {"opened": anomaly.opened_us, "closed": anomaly.closed_us}.get(phase, 0) or anomaly.opened_us
    if look.json != "off":
        return as_json({"event": phase, "time_us": time_us, "anomaly": anomaly.json()}, look.json)
    if phase == "closed":
        lasted = duration((anomaly.closed_us - anomaly.opened_us) / 1e6)
        said = f"{_who(anomaly.comm, anomaly.pid)}: closed after {lasted}, score {number(anomaly.score)}"
    else:
        said = shown(anomaly.message)
    return f"{moment(time_us)} {look.paint(f'{phase:7}', _COLOURS[phase])} {f'#{anomaly.id}':>5} {said}\n"


def exit_line(time_us: int, target: int, details: Mapping[str, Any], look: Look) -> str:
    """Return the line of a watched process that ended."""
    code, by = details.get("Code", 0), details.get("Signal", 0)
    if look.json != "off":
        row = {
            "event": "exited",
            "time_us": time_us,
            "target": target,
            "pid": details.get("Pid", 0),
            "comm": details.get("Comm", ""),
            "code": code,
            "signal": by,
        }
        return as_json(row, look.json)
    # a daemon that only polls sees that a process ended, not how
    how = f"killed by signal {by}" if by else f"exited with status {code}" if code >= 0 else "ended"
    who = _who(str(details.get("Comm", "")), int(details.get("Pid", 0)))
    return f"{moment(time_us)} {look.paint('exited ', _COLOURS['exited'])} {'':>5} {who}: {how}\n"


def past(anomalies: Iterable[Anomaly], since_us: int | None, until_us: int | None) -> list[tuple[str, Anomaly]]:
    """Return the openings and closings within these times, oldest first."""
    moments = []
    for anomaly in anomalies:
        moments.append((anomaly.opened_us, anomaly.id, "opened", anomaly))
        if anomaly.closed_us:
            moments.append((anomaly.closed_us, anomaly.id, "closed", anomaly))
    moments.sort(key=lambda row: row[:2])
    return [
        (phase, anomaly)
        for time_us, _, phase, anomaly in moments
        if (since_us is None or time_us >= since_us) and (until_us is None or time_us <= until_us)
    ]


def _who(comm: str, pid: int) -> str:
    return f"{shown(comm) or '?'}[{pid}]"
