"""``osdctl mute``: report nothing of a target for a while."""

from __future__ import annotations

import argparse

from osdctl import options
from osdctl.manager import Manager
from osdctl.text import as_json, moment, shown

NAME = "mute"
HELP = "report nothing of a target for a while"
ACTS = True


def arguments(parser: argparse.ArgumentParser) -> None:
    """The target and the time."""
    parser.add_argument("target", metavar="ID|SPEC", help="a target's number or its specification")
    parser.add_argument(
        "seconds", type=_seconds, metavar="TIME", help="for so long, like 30min or 2h; off to hear of it again"
    )


def _seconds(text: str) -> int:
    return 0 if text == "off" else options.seconds(text)


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return until when the target is muted."""
    target = await manager.find(args.target)
    await manager.mute(target, args.seconds)
    target = await manager.target(target.path)
    if args.look.json != "off":
        return as_json({"id": target.id, "spec": target.spec, "muted_until_us": target.muted_until_us}, args.look.json)
    if args.look.quiet:
        return ""
    until = f"muted until {moment(target.muted_until_us)}" if args.seconds else "no longer muted"
    return f"{target.id}\t{shown(target.spec)}\t{until}\n"
