"""``osdctl detect``: detection over recorded data, by the daemon's package."""

from __future__ import annotations

import argparse
import asyncio

from osdctl import program
from osdctl.command import Answer
from osdctl.errors import UsageError
from osdctl.manager import Manager

NAME = "detect"
HELP = "find anomalies in recorded CSV files"
ALONE = True
PASSES_ON = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """Everything goes on to the program."""
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="CSV|DIR ...", help="see osdctl detect --help")


async def run(args: argparse.Namespace, manager: Manager) -> Answer:
    """Run ``python3 -m osdetectord.offline``; its output goes straight through."""
    if args.look.json != "off":
        raise UsageError("detect writes CSV files and no JSON", "see osdctl detect --help")
    return Answer("", await asyncio.to_thread(program.run, program.module("osdetectord.offline"), args.words))
