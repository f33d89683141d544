"""``osdctl feedback``: say whether an anomaly was worth the report, or take that back."""

from __future__ import annotations

import argparse

from osdctl import options
from osdctl.manager import Manager
from osdctl.text import as_json

NAME = "feedback"
HELP = "say whether an anomaly was useful; like ones of that program become quieter if not"
ACTS = True

UNDO = "undo"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The anomaly and the verdict."""
    parser.add_argument("id", type=options.anomaly_id, metavar="ID", help="an anomaly's number")
    parser.add_argument(
        "useful",
        choices=("yes", "no", UNDO),
        metavar="yes|no|undo",
        help=f"a real fault or worth knowing: yes; a false alarm: no; {UNDO} takes it back",
    )


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return what the daemon now has as the user's word."""
    anomaly = await manager.anomaly(args.id)
    if args.useful == UNDO:
        await manager.forget_feedback(anomaly)
    else:
        await manager.feedback(anomaly, useful=args.useful == "yes")
    anomaly = await manager.anomaly(args.id)
    if args.look.json != "off":
        return as_json({"id": anomaly.id, "useful": anomaly.useful}, args.look.json)
    return "" if args.look.quiet else f"{anomaly.id}\tuseful: {anomaly.useful or 'nothing said'}\n"
