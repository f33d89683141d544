"""``osdctl config``: check, show or import a configuration, by the daemon's own programs, which alone can read it."""

from __future__ import annotations

import argparse
import asyncio

from osdctl import program
from osdctl.command import Answer
from osdctl.errors import Status, UsageError
from osdctl.manager import Manager

NAME = "config"
HELP = "check or show the daemon's configuration, or import the original OSdetector's"
ALONE = True

IMPORT = "import"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with what."""
    parser.add_argument(
        "verb",
        choices=("check", "show", IMPORT),
        metavar="check|show|import",
        help="say what is wrong; print it merged with the defaults; print a config.json as our YAML",
    )
    parser.add_argument("path", nargs="?", metavar="DIR|FILE", help="default /etc/osdetectord; for import config.json")
    parser.add_argument("detectors", nargs="?", metavar="FILE", help="for import, a detector-config.yml")


async def run(args: argparse.Namespace, manager: Manager) -> Answer:
    """Run the program that can read it; its output goes straight through."""
    if args.look.json != "off":
        raise UsageError(f"config {args.verb} writes no JSON", "config show and import write YAML")
    if args.verb == IMPORT:
        if args.path is None:
            raise UsageError(
                "nothing to import", "write it like: osdctl config import config.json [detector-config.yml]"
            )
        words = [args.path, *([args.detectors] if args.detectors is not None else [])]
        command = program.module("osdetectord.snoop.convert")
        return Answer("", await asyncio.to_thread(program.run, command, words))
    if args.detectors is not None:
        raise UsageError(f"{args.verb} takes one directory, not {args.detectors} too")
    words = [f"--{args.verb}-config", *([args.path] if args.path is not None else [])]
    status = await asyncio.to_thread(program.run, program.daemon(), words)
    # the daemon tells its manager by 78 (sysexits.h) that the configuration is wrong; to a person it failed
    return Answer("", Status.FAILED if status not in (Status.DONE, Status.USAGE) else status)
