"""``osdctl allocations``: what programs hold of the memory that their allocator gave them, and who asked for it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable
from typing import Any

from osdctl import instrument, options, output
from osdctl.command import Answer
from osdctl.errors import NoSuch, OsdctlError, UsageError
from osdctl.manager import Manager
from osdctl.model import Allocations, Price
from osdctl.text import Colour, Column, Look, as_json, moment, quantity, shown, table

NAME = "allocations"
HELP = "watch what running programs hold of their allocator's memory, and who asked for it"

DEFAULT_BUDGET = 100_000
STACKS = 10
RATES = (1_000, 10_000)
"""Pairs of calls a second for which the price is told."""

COLUMNS = (
    Column("ID", right=True),
    Column("STATE", state=True),
    Column("PROCS", right=True),
    Column("HELD", right=True),
    Column("BLOCKS", right=True),
    Column("CALLS", right=True),
    Column("COST", right=True),
    Column("SCOPE"),
)
PROCESS_COLUMNS = (
    Column("PID", right=True),
    Column("HELD", right=True),
    Column("BLOCKS", right=True),
    Column("ALLOCATED", right=True),
    Column("ALLOCATIONS", right=True),
    Column("FREES", right=True),
    Column("NOT WATCHED"),
)


class NotConfirmed(OsdctlError):
    """The user did not want to pay."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which."""
    add, remove, _, show, top, _ = instrument.verbs(
        parser,
        {
            "add": "tell the price, and watch allocations if that is wanted",
            "remove": "watch them no more",
            "list": "list whose allocations are watched",
            "show": "show them, process by process",
            "top": "list the stacks that hold most",
            "price": "measure what it costs on this machine",
        },
    ).values()
    add.add_argument("target", nargs="?", metavar="ID|SPEC", help="allocations of the processes of this target")
    add.add_argument("-p", "--pid", type=options.pid, metavar="PID", help="allocations of this process")
    add.add_argument("--library", metavar="BINARY", help="the allocator's, like jemalloc; default: libc or the program")
    add.add_argument(
        "--budget",
        type=options.count,
        default=DEFAULT_BUDGET,
        metavar="N",
        help=f"let a process go that calls its allocator more than N times a second, default {DEFAULT_BUDGET}",
    )
    add.add_argument("-y", "--yes", action="store_true", help="do not ask whether the price is right")
    remove.add_argument("numbers", nargs="+", type=_number, metavar="N")
    show.add_argument("number", type=_number, metavar="N")
    top.add_argument("number", type=_number, metavar="N")
    top.add_argument("-n", "--lines", type=options.count, default=STACKS, metavar="N", help="at most N stacks")


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise UsageError(f"no number of allocations: {text or 'nothing'}", "osdctl allocations list")
    return int(text)


def run(args: argparse.Namespace, manager: Manager) -> Awaitable[str | Answer]:
    """Do what the verb says."""
    if args.verb == "add":
        return _add(args, manager)
    if args.verb == "remove":
        return _remove(args, manager)
    if args.verb == "show":
        return _show(args, manager)
    if args.verb == "top":
        return _top(args, manager)
    if args.verb == "price":
        return _price(args, manager)
    return _list(args, manager)


async def _add(args: argparse.Namespace, manager: Manager) -> str:
    look: Look = args.look
    given: dict[str, tuple[str, Any]] = {"budget": ("u", args.budget)}
    if (args.target is None) == (args.pid is None):
        raise UsageError("whose allocations", "name a target, or a process with --pid")
    if args.target is not None:
        target = await manager.find(args.target)
        given["target"], whose = ("o", target.path), target.spec
    else:
        _must_exist(args.pid)
        given["pid"], whose = ("u", args.pid), f"pid:{args.pid}"
    if args.library is not None:
        given["library"] = ("s", args.library)
    price = await manager.allocation_price()
    if not (look.quiet and args.yes):
        for line in told(price, args.budget):
            output.remark(line)
    if not args.yes:
        _confirm(whose)
    added = await manager.add_allocations(given)
    for each in added.processes:
        if each.trouble:
            output.remark(f"not of process {each.pid}: {each.trouble}")
    if look.json != "off":
        return as_json(added.json(), look.json)
    return f"{added.id}\n" if look.quiet else f"{added.id}\t{shown(added.scope)}\n"


def _must_exist(pid: int) -> None:
    """Raise :class:`NoSuch` where there is no such process, before a price is measured for it."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        # somebody else's, and whether it may be watched is the daemon's to say
        return
    except (ProcessLookupError, OverflowError):
        raise NoSuch(f"no process {pid}") from None


def told(price: Price, budget: int) -> list[str]:
    """Return what the price means to a program, in lines for people."""
    pair_s = price.malloc_s + price.free_s
    shares = [f"{quantity(rate * pair_s, 's/s')} at {rate} of both a second" for rate in RATES]
    most = budget / 2 * pair_s
    return [
        f"measured just now: each malloc takes {quantity(price.malloc_s, 's')} longer and each free "
        f"{quantity(price.free_s, 's')} (both together took {quantity(price.before_s, 's')})",
        f"of a CPU that is {', '.join(shares)}, and at most {quantity(most, 's/s')}: "
        f"above {budget} calls a second the process is let go",
    ]


def _confirm(whose: str) -> None:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise NotConfirmed("nothing is watched: there is no terminal to ask at", "say --yes if the price is right")
    sys.stderr.write(f"Watch the allocations of {shown(whose)} at that price? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("nothing is watched")


async def _remove(args: argparse.Namespace, manager: Manager) -> str:
    found = [await manager.allocations(each) for each in args.numbers]
    for one in found:
        await manager.remove_allocations(one)
    if args.look.json != "off":
        return as_json([{"id": one.id} for one in found], args.look.json)
    return "" if args.look.quiet else "".join(f"{one.id}\t{shown(one.scope)}\n" for one in found)


async def _list(args: argparse.Namespace, manager: Manager) -> str:
    look: Look = args.look
    found = await manager.all_allocations()
    if look.json != "off":
        return as_json([one.json() for one in found], look.json)
    if look.quiet:
        return "".join(f"{one.id}\n" for one in found)
    if not found:
        output.remark("no allocations are watched; start with: osdctl allocations add TARGET")
        return ""
    rows = [
        (
            str(one.id),
            one.state,
            str(sum(not each.trouble for each in one.processes)),
            quantity(one.bytes, "bytes"),
            str(one.blocks),
            quantity(one.rate, "/s"),
            quantity(one.cost, "s/s"),
            one.scope,
        )
        for one in found
    ]
    return table(COLUMNS, rows, look)


async def _show(args: argparse.Namespace, manager: Manager) -> str:
    look: Look = args.look
    one = await manager.allocations(args.number)
    if look.json != "off":
        return as_json(one.json(), look.json)
    head = {
        "Of": shown(one.scope),
        "State": look.state(one.state),
        "Since": moment(one.since_us),
        "Allocator": shown(one.library) or "libc, or the program's own",
        "Held": f"{quantity(one.bytes, 'bytes')} in {one.blocks} blocks",
        "Calls": quantity(one.rate, "/s"),
        "Cost": f"{quantity(one.cost, 's/s')} of a CPU",
        "Budget": f"{one.budget} calls/s of each process",
        "Lost": str(one.lost),
    }
    rows = [
        (
            str(each.pid),
            quantity(each.bytes, "bytes"),
            str(each.blocks),
            quantity(each.allocated_bytes, "bytes"),
            str(each.allocations),
            str(each.frees),
            each.trouble or "-",
        )
        for each in one.processes
    ]
    text = "".join(f"{name:>9}: {value}\n" for name, value in head.items())
    return f"{text}\n{table(PROCESS_COLUMNS, rows, look)}" if rows else text


async def _top(args: argparse.Namespace, manager: Manager) -> str:
    look: Look = args.look
    one: Allocations = await manager.allocations(args.number)
    stacks = await manager.top_allocations(one, args.lines)
    if look.json != "off":
        rows = [
            {"pid": each.pid, "bytes": each.bytes, "blocks": each.blocks, "frames": list(each.frames)}
            for each in stacks
        ]
        return as_json(rows, look.json)
    if not stacks and not look.quiet:
        output.remark("nothing is held of what was allocated since it is watched")
    parts = []
    for each in stacks:
        said = look.paint(f"{quantity(each.bytes, 'bytes')} in {each.blocks} blocks, process {each.pid}", Colour.BOLD)
        parts.append(said + "\n" + "".join(f"    {shown(frame)}\n" for frame in each.frames))
    return "\n".join(parts)


async def _price(args: argparse.Namespace, manager: Manager) -> str:
    price = await manager.allocation_price()
    if args.look.json != "off":
        found = {"malloc_s": price.malloc_s, "free_s": price.free_s, "before_s": price.before_s}
        return as_json(found, args.look.json)
    return "".join(f"{line}\n" for line in told(price, DEFAULT_BUDGET))
