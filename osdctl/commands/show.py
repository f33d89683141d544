"""``osdctl show``: everything about one target."""

from __future__ import annotations

import argparse
import time

from osdctl.commands.anomalies import COLUMNS as ANOMALY_COLUMNS
from osdctl.commands.anomalies import row_of
from osdctl.manager import Manager
from osdctl.model import Target
from osdctl.text import Column, Look, as_json, moment, number, percent, quantity, shown, table

NAME = "show"
HELP = "show one target: its processes, newest samples and anomalies"

PROCESS_COLUMNS = (
    Column("PID", right=True),
    Column("STATE", state=True),
    Column("LEARNED", right=True),
    Column("SCORE", right=True),
    Column("STARTED"),
    Column("COMMAND"),
)
METRIC_COLUMNS = (Column("METRIC"), Column("NEWEST", right=True))
RECENT = 5


def arguments(parser: argparse.ArgumentParser) -> None:
    """The target."""
    parser.add_argument("target", metavar="ID|SPEC", help="a target's number or its specification")


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return the target's properties and what hangs on it."""
    look: Look = args.look
    target = await manager.find(args.target)
    found = await manager.anomalies(target=target, limit=RECENT)
    if look.json != "off":
        return as_json({**target.json(), "anomalies": [anomaly.json() for anomaly in found]}, look.json)
    parts = [_head(target, look)]
    if target.processes:
        processes = [
            (str(row.pid), row.state, percent(row.progress), number(row.score), moment(row.started_us), row.comm)
            for row in target.processes
        ]
        parts.append(table(PROCESS_COLUMNS, processes, look))
    if target.latest:
        units = (await manager.daemon()).units
        newest = [(name, quantity(value, units.get(name, ""))) for name, value in sorted(target.latest.items())]
        parts.append(table(METRIC_COLUMNS, newest, look))
    if found:
        parts.append(table(ANOMALY_COLUMNS, [row_of(anomaly) for anomaly in found], look))
    return "\n".join(parts)


def _head(target: Target, look: Look) -> str:
    muted = target.muted_until_us > time.time() * 1e6
    lines = {
        "Target": f"{target.id} {shown(target.spec)}",
        "State": look.state(target.state)
        + (f", {percent(target.progress)} learned" if target.state == "learning" else ""),
        "Score": f"{number(target.score)} (1 is the alarm level)",
        "Since": moment(target.since_us),
        "Kept": "over restarts of the daemon" if target.persistent else "until the daemon stops",
        "Children": "followed" if target.children else "not followed",
        "Muted": f"until {moment(target.muted_until_us)}" if muted else "no",
    }
    return "".join(f"{name:>9}: {text}\n" for name, text in lines.items())
