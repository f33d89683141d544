"""``osdctl syscalls``: what a target asks of the kernel."""

from __future__ import annotations

import argparse

from osdctl import options
from osdctl.inside import Syscall
from osdctl.manager import Manager
from osdctl.text import Column, Look, as_json, quantity, table

NAME = "syscalls"
HELP = "show the system calls of a target: how often, how long, and which errors"

COLUMNS = (
    Column("CALL"),
    Column("COUNT", right=True),
    Column("TOTAL", right=True),
    Column("MEAN", right=True),
    Column("LONGEST", right=True),
    Column("ERRORS"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Whose, and how many."""
    parser.add_argument("target", metavar="ID|SPEC", help="a target's number or its specification")
    parser.add_argument("-n", "--lines", type=options.count, metavar="N", help="at most N system calls")


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return the calls, most time first."""
    look: Look = args.look
    target = await manager.find(args.target)
    found = (await manager.syscalls(target))[: args.lines]
    if look.json != "off":
        return as_json([each.json() for each in found], look.json)
    return table(COLUMNS, [_row(each) for each in found], look)


def _row(each: Syscall) -> tuple[str, ...]:
    return (
        each.name,
        str(each.calls),
        quantity(each.total_s, "s"),
        quantity(each.total_s / each.calls if each.calls else 0.0, "s"),
        quantity(each.longest_s, "s"),
        ", ".join(f"{count} {name}" for name, count in each.failures.items()),
    )
