"""``osdctl snoop``: collect into CSV files and detect in them, as the original did, by the daemon's package."""

from __future__ import annotations

import argparse
import os
import sys

from osdctl import options, program
from osdctl.errors import OsdctlError
from osdctl.manager import Manager

NAME = "snoop"
HELP = "collect what a program does into CSV files, and detect in them"
ALONE = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """The original's options."""
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("-c", "--command", metavar="CMD", dest="program", help="run this command and snoop it")
    subject.add_argument("-p", "--pid", type=options.pid, metavar="PID", help="snoop a process that runs")
    parser.add_argument(
        "--configure_file", metavar="FILE", help="what to collect (default ./config.json, if there is one)"
    )
    parser.add_argument("-i", "--interval", type=float, metavar="S", help="seconds between rows, over the file's")
    parser.add_argument("--detectors", metavar="FILE", help="how to detect, a detectors.yml")


def words(args: argparse.Namespace) -> list[str]:
    """Return the command line for the daemon's package."""
    given = {
        "--command": args.program,
        "--pid": args.pid,
        "--configure_file": args.configure_file,
        "--interval": args.interval,
        "--detectors": args.detectors,
    }
    out = [f"{flag}={value}" for flag, value in given.items() if value is not None]
    return [*out, *(["--json"] if args.look.json != "off" else []), *(["--quiet"] if args.look.quiet else [])]


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Become ``python3 -m osdetectord.snoop``: signals and the exit status are then its own."""
    command = [*program.module("osdetectord.snoop"), *words(args)]
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(command[0], command)
    except OSError as error:
        raise OsdctlError(f"cannot run {command[0]}: {(error.strerror or str(error)).lower()}") from error
