"""``osdctl unwatch``: stop to watch."""

from __future__ import annotations

import argparse

from osdctl import output
from osdctl.command import Answer
from osdctl.errors import NotRunning, OsdctlError
from osdctl.manager import Manager
from osdctl.text import as_json, shown

NAME = "unwatch"
HELP = "stop to watch processes"
ACTS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """The targets."""
    parser.add_argument("targets", nargs="+", metavar="ID|SPEC", help="a target's number or its specification")


async def run(args: argparse.Namespace, manager: Manager) -> Answer:
    """Return the targets that are no longer watched."""
    gone, status = [], 0
    for word in args.targets:
        try:
            target = await manager.find(word)
            await manager.unwatch(target)
            gone.append(target)
        except NotRunning:
            raise
        except OsdctlError as error:
            output.remark(str(error))
            status = error.status
    if args.look.json != "off":
        return Answer(as_json([{"id": target.id, "spec": target.spec} for target in gone], args.look.json), status)
    if args.look.quiet:
        return Answer("", status)
    return Answer("".join(f"{target.id}\t{shown(target.spec)}\n" for target in gone), status)
