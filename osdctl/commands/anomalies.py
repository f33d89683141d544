"""``osdctl anomalies``: a table of what was found, newest first."""

from __future__ import annotations

import argparse
import time

from osdctl import options, output
from osdctl.manager import Manager
from osdctl.model import Anomaly
from osdctl.text import Column, Look, as_json, duration, moment, number, percent, probability, table

NAME = "anomalies"
HELP = "list anomalies, newest first"

COLUMNS = (
    Column("ID", right=True),
    Column("OPENED"),
    Column("STATE", state=True),
    Column("LASTED", right=True),
    Column("SCORE", right=True),
    Column("P", right=True),
    Column("PROCESS"),
    Column("TARGET"),
    Column("USEFUL"),
    Column("TO BLAME"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which anomalies."""
    options.add_times(parser)
    parser.add_argument("-t", "--target", metavar="ID|SPEC", help="of this target")
    parser.add_argument("--open", action="store_true", help="that have not ended")
    parser.add_argument("-n", "--lines", type=options.count, metavar="N", help="the newest N")


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return the table."""
    look: Look = args.look
    found = await manager.anomalies(
        since_us=args.since,
        until_us=args.until,
        target=await manager.find(args.target) if args.target is not None else None,
        only_open=args.open,
        limit=args.lines,
    )
    if look.json != "off":
        return as_json([anomaly.json() for anomaly in found], look.json)
    if look.quiet:
        return "".join(f"{anomaly.id}\n" for anomaly in found)
    if not found:
        output.remark("no anomalies")
        return ""
    return table(COLUMNS, [row_of(anomaly) for anomaly in found], look)


def row_of(anomaly: Anomaly) -> tuple[str, ...]:
    """Return the cells of one anomaly."""
    until = anomaly.closed_us / 1e6 if anomaly.closed_us else time.time()
    return (
        str(anomaly.id),
        moment(anomaly.opened_us),
        anomaly.state,
        duration(until - anomaly.opened_us / 1e6),
        number(anomaly.score),
        probability(anomaly.p_value),
        f"{anomaly.comm}[{anomaly.pid}]",
        anomaly.spec,
        anomaly.useful or "-",
        ", ".join(f"{blame.metric} {percent(blame.share)}" for blame in anomaly.metrics[:3]),
    )
