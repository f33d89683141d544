"""``osdctl explain``: why an anomaly was told, metric by metric, and where to look further."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from osdctl import called, options
from osdctl.changes import changes, number_of
from osdctl.errors import NotRunning, OsdctlError
from osdctl.manager import Manager
from osdctl.model import Anomaly
from osdctl.text import (
    Colour,
    Column,
    Look,
    as_json,
    clock,
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
CALL_COLUMNS = (
    Column("PER SECOND", right=True),
    Column("BEFORE", right=True),
    Column("MEAN TIME", right=True),
    Column("BEFORE", right=True),
    Column("FAILED", right=True),
)
SPARK_COLUMNS = 40
CALLS = 6
AROUND = 12
JOURNAL = "/run/systemd/journal/socket"
AROUND_US = 300_000_000
LEAST_CPU = 0.005
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
    since = anomaly.opened_us - AROUND_US
    until = (anomaly.closed_us or anomaly.opened_us) + AROUND_US
    others = [a for a in await manager.anomalies(since_us=since, until_us=until) if a.id != anomaly.id]
    parts = [
        _head(anomaly, evidence, look),
        _blames(anomaly, look),
        _series(anomaly, evidence),
        _calls("System calls", "SYSTEM CALL", evidence.get("syscalls"), look),
        _calls("Probed functions", "FUNCTION", evidence.get("functions"), look),
        _around(anomaly, evidence, others),
        f"Evidence: {shown(lack)}\n" if lack else "",
        _further(anomaly),
    ]
    return "\n".join(part for part in parts if part)


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


def _head(anomaly: Anomaly, evidence: Mapping[str, Any], look: Look) -> str:
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
        "Threads": _threads(evidence),
        "Kind": kind,
        "Score": f"{number(anomaly.score)} (1 is the alarm level), p {probability(anomaly.p_value)}",
        "Detectors": ", ".join(shown(name) for name in anomaly.detectors) or "-",
        "Your word": f"useful: {shown(anomaly.useful)}" if anomaly.useful else "none yet",
    }
    said = look.paint(f"#{anomaly.id} {shown(anomaly.message)}", Colour.BOLD)
    return said + "\n\n" + "".join(f"{name:>9}: {text}\n" for name, text in lines.items() if text)


def _threads(evidence: Mapping[str, Any]) -> str:
    """Return the threads that were longest on a CPU since the alarm, where there are several."""
    rows = evidence.get("threads")
    known = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    busy = [row for row in known if number_of(row, "cpu") >= LEAST_CPU][:3]
    if len(known) < 2 or not busy:
        return ""
    return "busiest " + ", ".join(
        f"{shown(str(row.get('name', '')))}[{row.get('tid')}] {percent(number_of(row, 'cpu'))} of a core"
        for row in busy
    )


def _blames(anomaly: Anomaly, look: Look) -> str:
    onsets = [blame.onset_us for blame in anomaly.metrics if blame.onset_us and not blame.within]
    first = min(onsets, default=0)
    rows = []
    for blame in sorted(anomaly.metrics, key=lambda blame: -blame.share):
        if blame.within:
            left = "within it"
        elif not blame.onset_us:
            left = "-"
        elif blame.onset_us == first:
            left = f"{clock(first)}, {'first' if len(onsets) > 1 else _lead(anomaly, first)}"
        else:
            left = f"{duration((blame.onset_us - first) / 1e6)} later"
        observed = quantity(blame.observed, blame.unit)
        rows.append((blame.metric, percent(blame.share), observed, expected(blame.low, blame.high, blame.unit), left))
    lead = f"The first of them left its range {_lead(anomaly, first)}.\n" if len(onsets) > 1 else ""
    if anomaly.metrics and all(blame.within for blame in anomaly.metrics):
        lead = "Each of them is within its range: it is their combination that is unusual.\n"
    return table(COLUMNS, rows, look) + lead


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


def _calls(what: str, head: str, found: Any, look: Look) -> str:
    """Return the calls that changed most with the anomaly, where the evidence has any."""
    found = changes(found)
    rows = [
        (
            call.name,
            f"{quantity(call.rate)}/s",
            f"{quantity(call.rate_before)}/s" if found.before_s else "-",
            quantity(call.mean_s, "s"),
            quantity(call.mean_before_s, "s"),
            percent(call.failed),
        )
        for call in found.calls[:CALLS]
    ]
    if not rows:
        return ""
    against = f" against the {duration(found.before_s)} before" if found.before_s else ""
    said = f"{what} that changed most, in {duration(found.during_s)}{against}:\n"
    return said + table((Column(head), *CALL_COLUMNS), rows, look)


def _around(anomaly: Anomaly, evidence: Mapping[str, Any], others: Sequence[Anomaly]) -> str:
    """Return what else happened within some minutes, oldest first; what is nearest where it is much."""
    rows = evidence.get("happenings")
    lines = [(other.opened_us, f"#{other.id} {shown(other.message)}") for other in others]
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict):
            lines.append((int(number_of(row, "time_us")), _happened(row, anomaly)))
    lines.sort(key=lambda line: abs(line[0] - anomaly.opened_us))
    left = len(lines) - AROUND
    told = "".join(f"  {clock(time_us)}  {text}\n" for time_us, text in sorted(lines[:AROUND]))
    more = f"  and {left} more within {duration(AROUND_US / 1e6)}\n" if left > 0 else ""
    return f"Around it:\n{told}{more}" if lines else ""


def _happened(row: Mapping[str, Any], anomaly: Anomaly) -> str:
    pid, count, target = (int(number_of(row, name)) for name in ("pid", "count", "target"))
    said = f"{shown(str(row.get('kind', '')))} {shown(str(row.get('what', '')))}"
    if count > 1:
        said += f", {count} times"
    elif pid:
        said += f" [{pid}]"
    return said if target in (0, anomaly.target) else f"{said}, target {target}"


def _float(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _further(anomaly: Anomaly) -> str:
    metrics = " ".join(shown(blame.metric) for blame in anomaly.metrics[:3])
    lines = ["Look further:"]
    if metrics:
        lines.append(f"  osdctl plot {anomaly.target} {metrics}")
    if Path(JOURNAL).exists():
        lines.append(f"  journalctl OSDETECTOR_ANOMALY_ID={anomaly.id} -x")
    lines.append(f"  osdctl log -t {anomaly.target} --since=@{anomaly.opened_us // 1_000_000 - 600}")
    if not anomaly.useful:
        lines.append(f"  osdctl feedback {anomaly.id} no      if it was a false alarm; yes if it was not")
    return called.here("\n".join(lines) + "\n")
