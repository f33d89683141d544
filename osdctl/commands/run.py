"""``osdctl run``: run a program, watch it from its first instruction, sum up, end as it ended."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time

from osdctl import called, output, record
from osdctl.child import Child
from osdctl.command import Answer
from osdctl.errors import OsdctlError, UsageError
from osdctl.manager import Manager
from osdctl.model import Anomaly, Target
from osdctl.text import Look, as_json, cut, duration, number, percent, shown

NAME = "run"
HELP = "run a program and watch it; ends with its exit status"
ACTS = True

TICK_S = 1.0
SETTLE_S = 2.0
CLEAR_LINE = "\r\x1b[K"


def arguments(parser: argparse.ArgumentParser) -> None:
    """How to watch, and the program."""
    parser.add_argument("--no-children", dest="children", action="store_false", help="do not follow child processes")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="-- CMD ...", help="the program and its arguments")


async def run(args: argparse.Namespace, manager: Manager) -> Answer:
    """Return nothing on standard output, which is the program's; the summary goes to standard error."""
    words = args.program[1:] if args.program[:1] == ["--"] else args.program
    if not words:
        raise UsageError("no program to run", "write it like: osdctl run -- CMD ARGS...")
    look: Look = args.look
    child = Child(words)
    try:
        begun = time.time()
        target = await manager.watch(f"pid:{child.pid}", runtime=True, children=args.children)
        child.start()
    except BaseException:
        child.abandon()
        raise
    # Ctrl-C goes to the whole foreground process group; what it means is the program's to decide
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        await _accompany(child, manager, target, look, begun)
    finally:
        signal.signal(signal.SIGINT, before)
    await _sum_up(child, manager, target, look, begun)
    return Answer("", child.status)


async def _accompany(child: Child, manager: Manager, target: Target, look: Look, begun: float) -> None:
    """Wait for the program's end, with a line on what is seen where a person looks."""
    loop = asyncio.get_running_loop()
    live = sys.stderr.isatty() and not look.quiet and look.json == "off"
    for number_ in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number_, child.send, number_)
    ended = asyncio.ensure_future(child.wait())
    try:
        while not (await asyncio.wait({ended}, timeout=TICK_S))[0]:
            if live:
                sys.stderr.write(CLEAR_LINE + await _live(manager, target, look, begun))
                sys.stderr.flush()
        await ended
    finally:
        for number_ in (signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number_)
        if live:
            sys.stderr.write(CLEAR_LINE)
            sys.stderr.flush()


async def _live(manager: Manager, target: Target, look: Look, begun: float) -> str:
    lasted = duration(time.time() - begun)
    try:
        now = await manager.target(target.path)
    except OsdctlError as error:
        return cut(f"[{lasted}] {shown(error.message)}", look.width - 1)
    learned = f" {percent(now.progress)}" if now.state == "learning" else ""
    said = f"[{lasted}] {shown(now.state)}{learned}, score {number(now.score)}, {len(now.processes)} processes"
    return cut(said, look.width - 1)


async def _sum_up(child: Child, manager: Manager, target: Target, look: Look, begun: float) -> None:
    lasted = time.time() - begun
    try:
        found = await _found(manager, target, int(begun * 1e6))
    except OsdctlError as error:
        output.remark(f"what was found is not known: {error}")
        return
    if look.json != "off":
        summary = {
            "pid": child.pid,
            "status": child.status,
            "seconds": round(lasted, 3),
            "anomalies": [anomaly.json() for anomaly in found],
        }
        sys.stderr.write(as_json(summary, look.json))
    elif not look.quiet:
        count = f"{len(found)} anomal{'y' if len(found) == 1 else 'ies'}" if found else "nothing abnormal"
        output.remark(f"{child.told()} after {duration(lasted)}; {count}")
        for phase, anomaly in record.past(found, None, None):
            if phase == "opened":
                sys.stderr.write("  " + record.anomaly_line(phase, anomaly, Look()))
        if found:
            sys.stderr.write(called.here(f"  osdctl explain {found[0].id} says more\n"))


async def _found(manager: Manager, target: Target, since_us: int) -> list[Anomaly]:
    """Return the target's anomalies, once the daemon has seen its end, and forget the target."""
    deadline = time.monotonic() + SETTLE_S
    with contextlib.suppress(OsdctlError):
        while (await manager.target(target.path)).state != "gone" and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
    everything = await manager.anomalies(since_us=since_us)
    with contextlib.suppress(OsdctlError):
        await manager.unwatch(target)
    return [anomaly for anomaly in everything if anomaly.target == target.id and anomaly.spec == target.spec]
