"""``osdctl show``: everything about one target."""

from __future__ import annotations

import argparse

from osdctl import options
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
THREAD_COLUMNS = (
    Column("PID", right=True),
    Column("TID", right=True),
    Column("STATE"),
    Column("CPU", right=True),
    Column("CPU TIME", right=True),
    Column("VOLUNTARY", right=True),
    Column("INVOLUNTARY", right=True),
    Column("THREAD"),
)
RECENT = 5
THREADS, MOST_THREADS = 20, 1000
LOOK_S = 0.5


def arguments(parser: argparse.ArgumentParser) -> None:
    """The target, and whether its threads."""
    parser.add_argument("target", metavar="ID|SPEC", help="a target's number or its specification")
    parser.add_argument("-T", "--threads", action="store_true", help="also its threads, the busiest first")
    parser.add_argument(
        "-n", "--lines", type=options.count, default=THREADS, metavar="N", help=f"at most N threads, default {THREADS}"
    )


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return the target's properties and what hangs on it."""
    look: Look = args.look
    target = await manager.find(args.target)
    found = await manager.anomalies(target=target, limit=RECENT)
    threads = await manager.threads(target, LOOK_S, min(args.lines, MOST_THREADS)) if args.threads else []
    if look.json != "off":
        more = {"threads": [thread.json() for thread in threads]} if args.threads else {}
        return as_json({**target.json(), "anomalies": [anomaly.json() for anomaly in found], **more}, look.json)
    parts = [_head(target, look)]
    if target.processes:
        processes = [
            (str(row.pid), row.state, percent(row.progress), number(row.score), moment(row.started_us), row.comm)
            for row in target.processes
        ]
        parts.append(table(PROCESS_COLUMNS, processes, look))
    if threads:
        rows = [
            (
                *(str(row.pid), str(row.tid), row.state, percent(row.cpu), quantity(row.cpu_s, "s")),
                *(quantity(row.voluntary), quantity(row.involuntary), row.comm),
            )
            for row in threads
        ]
        parts.append(table(THREAD_COLUMNS, rows, look))
    if target.latest:
        units = (await manager.daemon()).units
        newest = [(name, quantity(value, units.get(name, ""))) for name, value in sorted(target.latest.items())]
        parts.append(table(METRIC_COLUMNS, newest, look))
    if found:
        parts.append(table(ANOMALY_COLUMNS, [row_of(anomaly) for anomaly in found], look))
    return "\n".join(parts)


def _head(target: Target, look: Look) -> str:
    lines = {
        "Target": f"{target.id} {shown(target.spec)}",
        "State": look.state(target.state)
        + (f", {percent(target.progress)} learned" if target.state == "learning" else ""),
        "Score": f"{number(target.score)} (1 is the alarm level)",
        "Since": moment(target.since_us),
        "Kept": "over restarts of the daemon" if target.persistent else "until the daemon stops",
        "Children": "followed" if target.children else "not followed",
        "Muted": f"until {moment(target.muted_until_us)}" if target.muted else "no",
    }
    return "".join(f"{name:>9}: {text}\n" for name, text in lines.items())
