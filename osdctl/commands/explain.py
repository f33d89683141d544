"""``osdctl explain``: why an anomaly was told, metric by metric, and where to look further."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from typing import Any

from osdctl import options
from osdctl.errors import NotRunning, OsdctlError
from osdctl.manager import Manager
from osdctl.model import Anomaly
from osdctl.text import (
    Colour,
    Column,
    Look,
    as_json,
    duration,
    expected,
    moment,
    number,
    pad,
    percent,
    probability,
    quantity,
    shown,
    sparkline,
    table,
    width_of,
)

NAME = "explain"
HELP = "explain an anomaly: since when, which metrics are to blame, what else changed"

COLUMNS = (
    Column("METRIC"),
    Column("SHARE", right=True),
    Column("OBSERVED", right=True),
    Column("EXPECTED", right=True),
    Column("LEFT ITS RANGE"),
)
SYSCALL_COLUMNS = (
    Column("SYSTEM CALL"),
    Column("CALLS", right=True),
    Column("ERRORS", right=True),
    Column("MEAN", right=True),
    Column("LONGEST", right=True),
)
SPARK_COLUMNS = 40
SYSCALLS = 5
KINDS = {
    "anomaly": "not seen before for this program",
    "recurrence": "like an earlier one of this program",
    "new-normal": "a lasting change, now taken as normal",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """The anomaly."""
    parser.add_argument("id", type=options.anomaly_id, metavar="ID", help="an anomaly's number")


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return the explanation."""
    look: Look = args.look
    anomaly = await manager.anomaly(args.id)
    evidence, lack = await _evidence(manager, anomaly)
    if look.json != "off":
        return as_json({**anomaly.json(), "evidence": evidence}, look.json)
    parts = [_head(anomaly, look), _blames(anomaly, look)]
    parts += [part for part in (_series(anomaly, evidence), _syscalls(evidence, look)) if part]
    if lack:
        parts.append(f"Evidence: {shown(lack)}\n")
    parts.append(_further(anomaly))
    return "\n".join(parts)


async def _evidence(manager: Manager, anomaly: Anomaly) -> tuple[dict[str, Any], str]:
    """Return the evidence, or why there is none: an old anomaly's may be gone."""
    try:
        text = await manager.evidence(anomaly)
        if not text:
            return {}, "none was kept"
        found = json.loads(text)
    except NotRunning:
        raise
    except OsdctlError as error:
        return {}, error.message
    except ValueError:
        return {}, "the daemon's evidence is no JSON"
    return (found, "") if isinstance(found, dict) else ({}, "the daemon's evidence is no JSON object")


def _head(anomaly: Anomaly, look: Look) -> str:
    since = moment(anomaly.opened_us)
    if anomaly.closed_us:
        since += f", lasted {duration((anomaly.closed_us - anomaly.opened_us) / 1e6)}, closed"
    else:
        since += ", still " + look.state("open")
    kind = KINDS.get(anomaly.kind, shown(anomaly.kind))
    if anomaly.recurrence:
        kind += f", {anomaly.recurrence} times before"
    lines = {
        "Since": since,
        "Process": f"{shown(anomaly.comm)}[{anomaly.pid}] of target {anomaly.target} {shown(anomaly.spec)}",
        "Kind": kind,
        "Score": f"{number(anomaly.score)} (1 is the alarm level), p {probability(anomaly.p_value)}",
        "Detectors": ", ".join(shown(name) for name in anomaly.detectors) or "-",
        "Your word": f"useful: {shown(anomaly.useful)}" if anomaly.useful else "none yet",
    }
    said = look.paint(f"#{anomaly.id} {shown(anomaly.message)}", Colour.BOLD)
    return said + "\n\n" + "".join(f"{name:>9}: {text}\n" for name, text in lines.items())


def _blames(anomaly: Anomaly, look: Look) -> str:
    onsets = [blame.onset_us for blame in anomaly.metrics if blame.onset_us]
    first = min(onsets, default=0)
    rows = []
    for blame in sorted(anomaly.metrics, key=lambda blame: -blame.share):
        if not blame.onset_us:
            left = "-"
        elif blame.onset_us == first:
            left = f"{moment(first)}, {'first' if len(onsets) > 1 else _lead(anomaly, first)}"
        else:
            left = f"{duration((blame.onset_us - first) / 1e6)} later"
        observed = quantity(blame.observed, blame.unit)
        rows.append((blame.metric, percent(blame.share), observed, expected(blame.low, blame.high, blame.unit), left))
    return table(COLUMNS, rows, look)


def _lead(anomaly: Anomaly, onset_us: int) -> str:
    ahead = (anomaly.opened_us - onset_us) / 1e6
    return f"{duration(ahead)} before the alarm" if ahead > 0 else "at the alarm"


def _series(anomaly: Anomaly, evidence: Mapping[str, Any]) -> str:
    """Return what the metrics to blame did before the alarm, the newest to the right."""
    metrics = evidence.get("metrics")
    if not isinstance(metrics, dict):
        return ""
    lines = []
    wide = max((width_of(shown(blame.metric)) for blame in anomaly.metrics), default=0)
    for blame in anomaly.metrics:
        row = metrics.get(blame.metric)
        values = row.get("values") if isinstance(row, dict) else None
        if isinstance(values, list) and values:
            bars = sparkline([_float(value) for value in values], min(SPARK_COLUMNS, len(values)))
            lines.append(f"{pad(shown(blame.metric), wide)}  {bars}\n")
    return "Before the alarm:\n" + "".join(f"  {line}" for line in lines) if lines else ""


def _syscalls(evidence: Mapping[str, Any], look: Look) -> str:
    """Return the system calls in which the process spent most time, where the evidence has them."""
    calls = evidence.get("syscalls")
    if not isinstance(calls, list):
        return ""
    known = [call for call in calls if isinstance(call, dict) and _float(call.get("count")) > 0]
    known.sort(key=lambda call: -_float(call.get("total_ns", 0)))
    rows = [
        (
            str(call.get("name", "?")),
            quantity(_float(call.get("count"))),
            quantity(_float(call.get("errors"))),
            quantity(_float(call.get("total_ns")) / _float(call.get("count")) / 1e9, "s"),
            quantity(_float(call.get("max_ns")) / 1e9, "s"),
        )
        for call in known[:SYSCALLS]
    ]
    return table(SYSCALL_COLUMNS, rows, look) if rows else ""


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _further(anomaly: Anomaly) -> str:
    metrics = " ".join(shown(blame.metric) for blame in anomaly.metrics[:3])
    lines = ["Look further:"]
    if metrics:
        lines.append(f"  osdctl plot {anomaly.target} {metrics}")
    lines.append(f"  journalctl OSDETECTOR_ANOMALY_ID={anomaly.id} -x")
    lines.append(f"  osdctl feedback {anomaly.id} yes|no")
    return "\n".join(lines) + "\n"
