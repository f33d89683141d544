"""``osdctl watch``: start to watch, and with ``-f`` print what happens to it."""

from __future__ import annotations

import argparse
import time
from collections.abc import AsyncIterator, Awaitable

from osdctl import options, output, record
from osdctl.command import Answer
from osdctl.errors import NoSuch, NotRunning, OsdctlError
from osdctl.following import steadily
from osdctl.manager import Event, Manager
from osdctl.model import Target, number_of
from osdctl.text import Look, as_json, shown

NAME = "watch"
HELP = "start to watch processes"
ACTS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Specifications, and how to watch them."""
    parser.add_argument(
        "specs",
        nargs="+",
        type=options.spec,
        metavar="SPEC",
        help="1234, pid:1234, unit:nginx.service, cgroup:/path, comm:redis-server, exe:/usr/sbin/nginx, user:www-data",
    )
    parser.add_argument("--runtime", action="store_true", help="forget it when the daemon stops")
    parser.add_argument("--no-children", dest="children", action="store_false", help="do not follow child processes")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="then print its anomalies until Ctrl-C or until it has ended"
    )


def run(args: argparse.Namespace, manager: Manager) -> Awaitable[str | Answer] | AsyncIterator[str]:
    """Watch, and follow where asked."""
    return _follow(args, manager) if args.follow else _watch(args, manager)


async def _watch(args: argparse.Namespace, manager: Manager) -> Answer:
    targets, failures = await _start(args, manager)
    for failure in failures:
        output.remark(str(failure))
    return Answer(_told(targets, args.look), failures[-1].status if failures else 0)


async def _follow(args: argparse.Namespace, manager: Manager) -> AsyncIterator[str]:
    events = await manager.events()
    targets, failures = await _start(args, manager)
    last = None if targets else failures.pop()
    for failure in failures:
        output.remark(str(failure))
    if last is not None:
        raise last
    if args.look.json == "off":
        yield _told(targets, args.look)
    async for line in follow(manager, events, targets, args.look):
        yield line


async def _start(args: argparse.Namespace, manager: Manager) -> tuple[list[Target], list[OsdctlError]]:
    """Watch each; one that cannot be watched does not keep the others from it."""
    targets: list[Target] = []
    failures: list[OsdctlError] = []
    for spec in args.specs:
        try:
            targets.append(await manager.watch(spec, runtime=args.runtime, children=args.children))
        except NotRunning:
            raise
        except OsdctlError as error:
            failures.append(error)
    return targets, failures


def _told(targets: list[Target], look: Look) -> str:
    if look.json != "off":
        return as_json([target.json() for target in targets], look.json)
    if look.quiet:
        return "".join(f"{target.id}\n" for target in targets)
    return "".join(f"{target.id}\t{shown(target.spec)}\n" for target in targets)


async def follow(
    manager: Manager, events: AsyncIterator[Event], targets: list[Target], look: Look
) -> AsyncIterator[str]:
    """Yield the lines of these targets' events until the last of them has ended."""
    left = {target.path: target.spec for target in targets}
    async for event in steadily(events):
        if event.kind == "stopped":
            output.remark("the daemon stopped; waiting for it to come back")
        elif event.kind == "started":
            output.remark("the daemon is back")
            left = {target.path: target.spec for target in await manager.targets() if target.spec in left.values()}
        elif event.anomaly is not None and event.anomaly.spec in left.values():
            if event.kind != "updated":
                yield record.anomaly_line(event.kind, event.anomaly, look)
        elif event.path in left:
            if event.kind == "exited" and event.details is not None:
                yield record.exit_line(int(time.time() * 1e6), number_of(event.path), event.details, look)
            if event.kind == "removed" or await _has_ended(manager, event):
                del left[event.path]
        if not left:
            return


async def _has_ended(manager: Manager, event: Event) -> bool:
    """Whether a target is over; only one of a pid can be, the others wait for the next process."""
    if event.kind == "changed":
        return event.details is not None and event.details.get("State") == "gone"
    try:
        return (await manager.target(event.path)).state == "gone"
    except NotRunning:
        return False
    except NoSuch:
        return True
