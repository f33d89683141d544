"""``osdctl drill``: bring a known fault about in a program of its own, and see whether the daemon tells it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator

from osdctl import faulty, options, output
from osdctl.command import Answer
from osdctl.errors import OsdctlError, Status
from osdctl.manager import Event, Manager
from osdctl.model import Anomaly, Target
from osdctl.text import Look, as_json, cut, duration, percent, shown

NAME = "drill"
HELP = "test this installation: bring a harmless fault about, and see whether it is told"
ACTS = True

FAULTS = {
    "loop": "an endless loop takes a whole core",
    "memory": f"memory grows by {faulty.BLOCK >> 20} MiB at a time, to {faulty.MOST_BYTES >> 20} MiB",
    "descriptors": f"files are opened and not closed, to {faulty.MOST_HANDLES}",
}
SETTLE_S = 25.0
"""A process that is known from an earlier run is given 20 samples before it is judged."""
STANDSTILL_S = 60.0
LOOK_S = 1.0
CLEAR_LINE = "\r\x1b[K"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which fault, and how long to wait."""
    names = "|".join(FAULTS)
    parser.add_argument(
        "fault", nargs="?", choices=tuple(FAULTS), metavar=names, default="loop", help="what goes wrong, default loop"
    )
    parser.add_argument(
        "--limit", type=options.seconds, default=60, metavar="TIME", help="it must be told within, default 1min"
    )


async def run(args: argparse.Namespace, manager: Manager) -> Answer:
    """Return what was told and after how long; status 1 where nothing was told within the limit."""
    look: Look = args.look
    events = await manager.events()
    with _program(args.fault) as child:
        target = await manager.watch(f"pid:{child.pid}", runtime=True, children=False)
        try:
            await _learn(manager, target, child, look)
            _say(f"the fault: {FAULTS[args.fault]}", look)
            begun = time.monotonic()
            anomaly = await _provoke(child, events, args.limit)
            seconds = time.monotonic() - begun
        finally:
            with contextlib.suppress(OsdctlError):
                await manager.unwatch(target)
    if look.json != "off":
        told = {"fault": args.fault, "told": anomaly is not None, "seconds": round(seconds, 3)}
        text = as_json({**told, "anomaly": anomaly.json() if anomaly else None}, look.json)
    elif anomaly is None:
        text = ""
        output.remark(
            f"the fault was not told within {duration(args.limit)}; osdctl doctor says what may be in the way"
        )
    else:
        text = f"told after {seconds:.1f} s: #{anomaly.id} {shown(anomaly.message)}\n"
    return Answer(text, Status.DONE if anomaly is not None else Status.FAILED)


@contextlib.contextmanager
def _program(fault: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the program that will go wrong; it is gone at the end."""
    # its own session: Ctrl-C is for osdctl, which then ends it
    child = subprocess.Popen(
        [sys.executable, faulty.__file__, fault],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        child.kill()
        with contextlib.suppress(OSError):
            child.communicate()


async def _learn(manager: Manager, target: Target, child: subprocess.Popen[bytes], look: Look) -> None:
    """Wait until the daemon knows what is normal for the program."""
    live = sys.stderr.isatty() and not look.quiet and look.json == "off"
    who = f"the program of the drill, pid {child.pid}"
    if not live:
        _say(f"learning what is normal for {who}", look)
    best, moved, settled = -1.0, time.monotonic(), 0.0
    while True:
        now = await manager.target(target.path)
        if child.poll() is not None or now.state == "gone":
            raise OsdctlError(f"{who} has ended by itself", "is there another program that ends it?")
        # an alarm of its own, from before the fault, ends by itself
        settled = (settled or time.monotonic()) if now.state == "normal" else 0.0
        if now.progress > best:
            best, moved = now.progress, time.monotonic()
        if live:
            said = f"learning what is normal for {who}: {percent(now.progress)}, {shown(now.state)}"
            sys.stderr.write(CLEAR_LINE + cut(said, look.width - 1))
            sys.stderr.flush()
        if settled and time.monotonic() - settled >= SETTLE_S:
            break
        if not settled and time.monotonic() - moved > STANDSTILL_S + SETTLE_S:
            raise OsdctlError(
                f"the daemon learns nothing of {who}: {now.state}, {percent(now.progress)}",
                "osdctl status says how the detector is",
            )
        await asyncio.sleep(LOOK_S)
    if live:
        sys.stderr.write(CLEAR_LINE)
        sys.stderr.flush()


async def _provoke(child: subprocess.Popen[bytes], events: AsyncIterator[Event], limit_s: float) -> Anomaly | None:
    """Bring the fault about and return the anomaly that is told of it, or nothing."""
    assert child.stdin is not None
    # what was told while it learned waits among the events: that was not the fault
    begun_us = time.time_ns() // 1000
    child.stdin.write(b"now\n")
    child.stdin.flush()
    try:
        async with asyncio.timeout(limit_s):
            async for event in events:
                told = event.anomaly if event.kind == "opened" else None
                if told is not None and told.pid == child.pid and told.opened_us >= begun_us:
                    return told
    except TimeoutError:
        pass
    return None


def _say(text: str, look: Look) -> None:
    if not look.quiet and look.json == "off":
        output.remark(text)
