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
import tty
from collections.abc import Callable, Iterator
from typing import Any

from osdctl import board, options, output
from osdctl.commands import explain
from osdctl.errors import NotRunning, UsageError
from osdctl.manager import Manager
from osdctl.text import STATE_COLOURS, Colour, Look

NAME = "top"
HELP = "show the targets live"

ENTER_SCREEN, LEAVE_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, CLEAR_TO_LINE_END, CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

Draw = Callable[[board.Board, Look], None]


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
            output.write(board.plain_frame(shown, dataclasses.replace(args.look, terminal=False)) + "\n")
            await asyncio.sleep(args.delay if left > 1 else 0)
        return ""
    await _ask(shown, manager)
    keys: asyncio.Queue[str] = asyncio.Queue()
    with _keyboard(keys), _screen(args.look) as draw:
        await _live(args, manager, shown, keys, draw)
    return ""


async def _live(
    args: argparse.Namespace, manager: Manager, shown: board.Board, keys: asyncio.Queue[str], draw: Draw
) -> None:
    loop = asyncio.get_running_loop()
    frames, due = args.frames, loop.time() + args.delay
    while True:
        size = shutil.get_terminal_size()
        draw(shown, dataclasses.replace(args.look, width=size.columns, height=size.lines))
        try:
            key = await asyncio.wait_for(keys.get(), max(0.0, due - loop.time()))
        except TimeoutError:
            frames = frames - 1 if frames is not None else None
            if frames == 0:
                return
            due = loop.time() + args.delay
            try:
                await _ask(shown, manager)
                shown.note = ""
            except NotRunning:
                shown.note = "the daemon is not running"
            continue
        if key == "e" and (number := shown.newest_anomaly()) is not None:
            look = dataclasses.replace(args.look, json="off")
            text = await explain.run(argparse.Namespace(id=number, look=look), manager)
            output.write(HOME + CLEAR_BELOW + text.replace("\n", "\r\n") + "\r\nany key goes back")
            await keys.get()
        elif not shown.press(key):
            return


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
        if task is not None:
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_reader(descriptor)
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _screen(look: Look) -> Iterator[Draw]:
    """Take the whole terminal, and give how to draw on it: with rich where it is installed and colour is wanted."""
    rich = _rich() if look.colour else None
    output.write(ENTER_SCREEN)
    try:
        yield rich or _draw_plain
    finally:
        output.write(LEAVE_SCREEN)


def _draw_plain(shown: board.Board, look: Look) -> None:
    lines = board.plain_frame(shown, look).split("\n")
    output.write(HOME + "".join(f"{line}{CLEAR_TO_LINE_END}\r\n" for line in lines).removesuffix("\r\n") + CLEAR_BELOW)


def _rich() -> Draw | None:
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return None
    styles = {Colour.RED: "bold red", Colour.YELLOW: "yellow", Colour.GREEN: "green", Colour.DIM: "dim"}

    def draw(shown: board.Board, look: Look) -> None:
        console: Any = Console(width=look.width, height=look.height, highlight=False)
        table: Any = Table(box=None, expand=True, padding=(0, 1), header_style="bold underline")
        for column in board.COLUMNS:
            table.add_column(
                column.head,
                justify="right" if column.right else "left",
                no_wrap=True,
                overflow="ellipsis",
                ratio=1 if column is board.COLUMNS[-1] else None,
            )
        for row in board.visible(shown.rows(), max(1, look.height - 3)):
            if row.cells:
                style = styles.get(STATE_COLOURS.get(row.cells[1], Colour.NONE), "")
                cells = [Text(cell, style=style if i in (1, 3, 4) else "") for i, cell in enumerate(row.cells)]
                table.add_row(*cells, style="reverse" if row.selected else "")
            else:
                table.add_row(*([""] * (len(board.COLUMNS) - 1)), Text(row.text, style="dim"))
        with console.capture() as caught:
            console.print(Text(shown.title(), no_wrap=True, overflow="ellipsis"))
            console.print(table)
            console.print(Text(shown.keys(), style="dim", no_wrap=True, overflow="ellipsis"), end="")
        lines = caught.get().split("\n")
        output.write(
            HOME + "".join(f"{line}{CLEAR_TO_LINE_END}\r\n" for line in lines).removesuffix("\r\n") + CLEAR_BELOW
        )

    return draw
