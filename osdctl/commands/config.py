"""``osdctl config``: check or show the configuration, by the daemon's own program, which alone can read it."""

from __future__ import annotations

import argparse
import asyncio

from osdctl import program
from osdctl.command import Answer
from osdctl.errors import Status
from osdctl.manager import Manager

NAME = "config"
HELP = "check or show the daemon's configuration"


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which directory."""
    parser.add_argument(
        "verb", choices=("check", "show"), help="say what is wrong, or print it merged with the defaults"
    )
    parser.add_argument("path", nargs="?", metavar="DIR", help="default /etc/osdetectord")


async def run(args: argparse.Namespace, manager: Manager) -> Answer:
    """Run ``osdetectord --check-config`` or ``--show-config``; its output goes straight through."""
    words = [f"--{args.verb}-config", *([args.path] if args.path is not None else [])]
    status = await asyncio.to_thread(program.run, program.daemon(), words)
    # the daemon tells its manager by 78 (sysexits.h) that the configuration is wrong; to a person it failed
    return Answer("", Status.FAILED if status not in (Status.DONE, Status.USAGE) else status)
