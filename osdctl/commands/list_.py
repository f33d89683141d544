"""``osdctl list``: one line for each target."""

from __future__ import annotations

import argparse

from osdctl import output
from osdctl.manager import Manager
from osdctl.text import Column, Look, as_json, moment, number, percent, table

NAME = "list"
HELP = "list what is watched"

COLUMNS = (
    Column("ID", right=True),
    Column("STATE", state=True),
    Column("LEARNED", right=True),
    Column("SCORE", right=True),
    Column("PROCS", right=True),
    Column("SINCE"),
    Column("TARGET"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return a table of the targets; with ``-q`` only their ids."""
    look: Look = args.look
    targets = await manager.targets()
    if look.json != "off":
        return as_json([target.json() for target in targets], look.json)
    if look.quiet:
        return "".join(f"{target.id}\n" for target in targets)
    if not targets:
        output.remark("nothing is watched; start with: osdctl watch PID")
        return ""
    rows = [
        (
            str(target.id),
            target.condition,
            percent(target.progress),
            number(target.score),
            str(len(target.processes)),
            moment(target.since_us),
            target.spec,
        )
        for target in targets
    ]
    return table(COLUMNS, rows, look)
