"""``osdctl latency``: how long a target waits for a CPU or for block devices."""

from __future__ import annotations

import argparse

from osdctl.inside import Latency
from osdctl.manager import Manager
from osdctl.text import Look, as_json, pad, quantity

NAME = "latency"
HELP = "show how long a target waits for a CPU, or for block devices"

TITLES = {
    "wait": "waits for a CPU",
    "read": "reads from block devices",
    "write": "writes to block devices",
}
EDGE, COUNT, WIDEST = 9, 11, 100
"""Columns of a bucket's edges, of its count, and of a whole line at most."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Whose, and for what."""
    parser.add_argument("target", metavar="ID|SPEC", help="a target's number or its specification")
    parser.add_argument(
        "kind", nargs="?", choices=("cpu", "block"), metavar="cpu|block", default="cpu", help="for what, default cpu"
    )


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return a histogram for each kind of wait."""
    look: Look = args.look
    target = await manager.find(args.target)
    found = await manager.latency(target, args.kind)
    if look.json != "off":
        return as_json({name: each.json() for name, each in found.items()}, look.json)
    return "\n".join(_told(TITLES.get(name, name), each, look) for name, each in found.items())


def _told(title: str, latency: Latency, look: Look) -> str:
    if not latency.total:
        return f"{title}: none\n"
    longest = quantity(latency.longest_s, "s") if latency.longest_s < float("inf") else "more than 8 s"
    lines = [
        f"{title}: {latency.total}",
        f"half within {quantity(latency.p50_s, 's')}, 99 % within {quantity(latency.p99_s, 's')}, longest {longest}",
    ]
    filled = [index for index, count in enumerate(latency.counts) if count]
    room = min(look.width, WIDEST) - 2 * EDGE - COUNT - 6
    for index in range(filled[0], filled[-1] + 1):
        low, high = latency.bounds_s(index)
        count = latency.counts[index]
        # what is there can be seen, however little it is
        bar = "#" * (max(1, round(room * count / max(latency.counts))) if count else 0)
        ends = pad("more" if high == float("inf") else quantity(high, "s"), EDGE, right=True)
        lines.append(f"{pad(quantity(low, 's'), EDGE, right=True)} -{ends} {count:>{COUNT}}  {bar}".rstrip())
    return "".join(f"{line}\n" for line in lines)
