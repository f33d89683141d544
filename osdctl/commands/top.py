"""``osdctl top``: the targets, live."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator

from osdctl import board, options, output, vitals
from osdctl.commands.explain import run as explain
from osdctl.errors import NoSuch, NotRunning, OsdctlError, UsageError
from osdctl.inside import Thread
from osdctl.manager import Manager
from osdctl.text import Look, cut, folded
from osdctl.threads import Threads

NAME = "top"
HELP = "show the targets live"

ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
SCROLLS = {"j": 1, "\x1b[B": 1, "\x1bOB": 1, "k": -1, "\x1b[A": -1, "\x1bOA": -1, " ": 1, "\x1b[6~": 1, "\x1b[5~": -1}
PAGES = (" ", "\x1b[6~", "\x1b[5~")
LOOK_S, MOST_THREADS = 0.05, 1000
"""Of the daemon at threads: their shares come from two looks, a frame apart."""
HOME, CLEAR_TO_LINE_END, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"


def arguments(parser: argparse.ArgumentParser) -> None:
    """How often, and how many times."""
    parser.add_argument(
        "-d", "--delay", type=options.seconds, default=1, metavar="TIME", help="between frames, default 1s"
    )
    parser.add_argument("-n", "--frames", type=options.count, metavar="N", help="end after N frames")


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Draw until a key or Ctrl-C ends it; into a pipe only as many frames as asked for."""
    shown = board.Board()
    if not (args.look.terminal and sys.stdin.isatty()):
        if args.frames is None:
            raise UsageError("top needs a terminal", "use osdctl top -n 1, or osdctl list --json=short")
        for left in range(args.frames, 0, -1):
            await _ask(shown, manager)
            output.write(board.frame(shown, dataclasses.replace(args.look, terminal=False)) + "\n")
            await asyncio.sleep(args.delay if left > 1 else 0)
        return ""
    await _ask(shown, manager)
    keys: asyncio.Queue[str] = asyncio.Queue()
    with _keyboard(keys), _screen():
        await _live(args, manager, shown, keys)
    return ""


async def _live(args: argparse.Namespace, manager: Manager, shown: board.Board, keys: asyncio.Queue[str]) -> None:
    loop = asyncio.get_running_loop()
    frames, due = args.frames, loop.time() + args.delay
    threads = Threads()
    while True:
        size = shutil.get_terminal_size()
        _draw(shown, dataclasses.replace(args.look, width=size.columns, height=size.lines))
        try:
            key = await asyncio.wait_for(keys.get(), max(0.0, due - loop.time()))
        except TimeoutError:
            frames = frames - 1 if frames is not None else None
            if frames == 0:
                return
            due = loop.time() + args.delay
            shown.note = ""
            with _noting(shown):
                await _ask(shown, manager)
                await _ask_details(shown, manager, threads)
            continue
        opened = set(shown.opened)
        with _noting(shown):
            if (number := shown.explained_by(key)) is not None:
                await _explain(number, args.look, manager, keys)
            elif not shown.press(key):
                return
            elif shown.opened - opened:
                await _ask_details(shown, manager, threads)


@contextlib.contextmanager
def _noting(shown: board.Board) -> Iterator[None]:
    """Say on the screen what the daemon did not answer: it may with the next frame."""
    try:
        yield
    except NotRunning:
        shown.note = "the daemon is not running"
    except OsdctlError as error:
        shown.note = error.message


async def _explain(number: int, look: Look, manager: Manager, keys: asyncio.Queue[str]) -> None:
    """Show an anomaly's explanation, which may be longer than the screen, until a key goes back."""
    size = shutil.get_terminal_size()
    # tables are fitted to the screen, and the rest is folded
    here = dataclasses.replace(look, json="off", width=size.columns, height=size.lines, colour=False)
    text = await explain(argparse.Namespace(id=number, look=here), manager)
    lines = [part for line in text.split("\n") for part in folded(line, size.columns)]
    first, room = 0, max(1, size.lines - 1)
    while True:
        first = max(0, min(first, len(lines) - room))
        last = min(len(lines), first + room)
        foot = f"lines {first + 1}-{last} of {len(lines)}; up/down scroll, any other key goes back"
        screen = [*lines[first : first + room], cut(foot, size.columns - 1)]
        output.write(HOME + "\n".join(f"{line}{CLEAR_TO_LINE_END}" for line in screen) + CLEAR_BELOW)
        key = await keys.get()
        if key not in SCROLLS:
            return
        first += SCROLLS[key] * (room if key in PAGES else 1)


async def _ask_details(shown: board.Board, manager: Manager, threads: Threads) -> None:
    """Ask for what is shown below what is open."""
    now_us = int(time.time() * 1e6)
    units = shown.daemon.units if shown.daemon is not None else {}
    curves = {}
    for target in shown.open_targets():
        metrics = vitals.chosen(target, shown.anomalies)
        names = [metric + part for metric in metrics for part in vitals.PARTS]
        # one that has gone meanwhile is shown without
        with contextlib.suppress(NoSuch):
            series = await manager.series(target.path, names, now_us - vitals.SPAN_US, vitals.POINTS) if names else {}
            curves[target.id] = vitals.curves(metrics, units, series)
    told: list[Thread] = []
    seen: dict[int, list[Thread]] = {}
    for target, pids in shown.open_processes():
        seen |= {pid: [] for pid in pids}
        with contextlib.suppress(NoSuch):
            told += [each for each in await manager.threads(target, LOOK_S, MOST_THREADS) if each.pid in pids]
    shown.take_details(curves, seen | threads.look(told))


async def _ask(shown: board.Board, manager: Manager) -> None:
    shown.take(await manager.daemon(), await manager.targets(), await manager.anomalies(only_open=True))


@contextlib.contextmanager
def _keyboard(keys: asyncio.Queue[str]) -> Iterator[None]:
    """Put each key that is pressed into the queue; a terminal's escape sequence comes in one piece."""
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    task = asyncio.current_task()

    def read() -> None:
        pressed = os.read(descriptor, 64).decode(errors="replace")
        for key in [pressed] if pressed.startswith("\x1b") else pressed or "q":
            keys.put_nowait(key)

    try:
        tty.setcbreak(descriptor)
        loop.add_reader(descriptor, read)
        loop.add_signal_handler(signal.SIGINT, keys.put_nowait, "q")
        if task is not None:
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Take the whole terminal, and give it back as it was."""
    output.write(ENTER_SCREEN)
    try:
        yield
    finally:
        output.write(LEAVE_SCREEN)


def _draw(shown: board.Board, look: Look) -> None:
    lines = board.frame(shown, look).split("\n")
    output.write(HOME + "\n".join(f"{line}{CLEAR_TO_LINE_END}" for line in lines) + CLEAR_BELOW)
