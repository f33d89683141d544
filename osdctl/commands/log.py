"""``osdctl log``: anomalies as one line each time one opens or closes, as they were and as they come."""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator, Awaitable

from osdctl import options, output, record
from osdctl.command import Answer
from osdctl.following import steadily
from osdctl.manager import Event, Manager
from osdctl.model import Target, number_of

NAME = "log"
HELP = "print a line for each anomaly that opened or closed"

BACKLOG = 10


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which lines, and whether to wait for more."""
    parser.add_argument("-f", "--follow", action="store_true", help="wait for more, until Ctrl-C")
    options.add_times(parser)
    parser.add_argument("-t", "--target", metavar="ID|SPEC", help="of this target")
    parser.add_argument("-n", "--lines", type=options.count, metavar="N", help=f"the last N lines ({BACKLOG} with -f)")


def run(args: argparse.Namespace, manager: Manager) -> Awaitable[str | Answer] | AsyncIterator[str]:
    """Print what was, or follow what comes."""
    return _follow(args, manager) if args.follow else _past(args, manager, args.lines)


async def _past(args: argparse.Namespace, manager: Manager, limit: int | None) -> str:
    return await _lines(args, manager, await _target(args, manager), limit)


async def _lines(args: argparse.Namespace, manager: Manager, target: Target | None, limit: int | None) -> str:
    # all of them, because one that opened long ago may have closed just now
    found = await manager.anomalies(until_us=args.until, target=target)
    rows = record.past(found, args.since, args.until)
    return "".join(
        record.anomaly_line(phase, anomaly, args.look) for phase, anomaly in (rows[-limit:] if limit else rows)
    )


async def _follow(args: argparse.Namespace, manager: Manager) -> AsyncIterator[str]:
    events = await manager.events()
    target = await _target(args, manager)
    yield await _lines(args, manager, target, args.lines or (None if args.since is not None else BACKLOG))
    async for event in steadily(events):
        line = _line(event, args, target)
        if line:
            yield line


async def _target(args: argparse.Namespace, manager: Manager) -> Target | None:
    return await manager.find(args.target) if args.target is not None else None


def _line(event: Event, args: argparse.Namespace, target: Target | None) -> str:
    if event.kind == "stopped":
        output.remark("the daemon stopped; waiting for it to come back")
    elif event.kind == "started":
        output.remark("the daemon is back")
    elif event.anomaly is not None:
        if event.kind != "updated" and (target is None or event.anomaly.spec == target.spec):
            return record.anomaly_line(event.kind, event.anomaly, args.look)
    elif event.kind == "exited" and event.details is not None and (target is None or event.path == target.path):
        return record.exit_line(int(time.time() * 1e6), number_of(event.path), event.details, args.look)
    return ""
