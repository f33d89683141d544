"""``osdctl explain``: why an anomaly was told, metric by metric, and where to look further."""

from __future__ import annotations

import argparse
import json
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
    percent,
    probability,
    quantity,
    shown,
    sparkline,
    table,
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
SPARK_COLUMNS = 40
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
    parts += [part for part in (_series(anomaly, evidence, look), _others(evidence, look)) if part]
    if lack:
        parts.append(f"Evidence: {shown(lack)}\n")
    parts.append(_further(anomaly))
    return "\n".join(parts)


async def _evidence(manager: Manager, anomaly: Anomaly) -> tuple[dict[str, Any], str]:
    """Return the evidence, or why there is none: an old anomaly's may be gone."""
    try:
        found = json.loads(await manager.evidence(anomaly))
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


def _series(anomaly: Anomaly, evidence: Mapping[str, Any], look: Look) -> str:
    """Return what the metrics to blame did around the onset, newest to the right."""
    series = evidence.get("series")
    if not isinstance(series, dict):
        return ""
    lines = []
    wide = max((len(blame.metric) for blame in anomaly.metrics), default=0)
    for blame in anomaly.metrics:
        row = series.get(blame.metric)
        values = row.get("values") if isinstance(row, dict) else row
        if isinstance(values, list) and values:
            numbers = [value if isinstance(value, int | float) else float("nan") for value in values]
            lines.append(f"{shown(blame.metric):{wide}} {sparkline(numbers, min(SPARK_COLUMNS, len(numbers)))}\n")
    return "".join(lines)


def _others(evidence: Mapping[str, Any], look: Look) -> str:
    """Return the system calls that changed most, where the evidence has them."""
    calls = evidence.get("syscalls")
    if not isinstance(calls, list):
        return ""
    rows = [
        (
            str(call.get("name", "?")),
            quantity(_float(call.get("before")), "/s"),
            quantity(_float(call.get("now")), "/s"),
        )
        for call in calls
        if isinstance(call, dict)
    ]
    return table((Column("SYSTEM CALL"), Column("BEFORE", right=True), Column("NOW", right=True)), rows, look)


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")


def _further(anomaly: Anomaly) -> str:
    metrics = " ".join(shown(blame.metric) for blame in anomaly.metrics[:3])
    lines = ["Look further:"]
    if metrics:
        lines.append(f"  osdctl plot {anomaly.target} {metrics}")
    lines.append(f"  journalctl OSDETECTOR_ANOMALY_ID={anomaly.id} -x")
    lines.append(f"  osdctl feedback {anomaly.id} yes|no")
    return "\n".join(lines) + "\n"
