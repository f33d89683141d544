"""What the commands of probes and of traces share: whose calls, which number, and following."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

from osdctl import options, output
from osdctl.errors import NoSuch, OsdctlError, UsageError
from osdctl.manager import Manager
from osdctl.model import Place, Probe, Trace
from osdctl.text import Look, as_json, shown

BACKLOG = 10
MAX_BACKLOG = 1000
MOST_BYTES = 1 << 22
"""Of one line: the daemon keeps no longer one for a reader."""
ACTING = frozenset({"add", "remove"})
"""Verbs that do something and say so in a line, where the others list."""


def add_scope(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``add``."""
    whose = parser.add_mutually_exclusive_group(required=True)
    whose.add_argument("-t", "--target", metavar="ID|SPEC", help="calls of the processes of this target")
    whose.add_argument("-p", "--pid", type=options.pid, metavar="PID", help="calls of this process")
    whose.add_argument("--tid", type=options.tid, metavar="TID", help="calls of this thread")
    whose.add_argument("--all", action="store_true", help="calls of every process; the binary must be a path")
    parser.add_argument("--no-children", dest="children", action="store_false", help="not those of child processes")
    parser.add_argument(
        "--budget", type=options.count, metavar="N", help="detach when called more than N times a second"
    )


async def scope(args: argparse.Namespace, manager: Manager) -> dict[str, tuple[str, Any]]:
    """Return the options of the call that adds."""
    given: dict[str, tuple[str, Any]] = {}
    if args.target is not None:
        given["target"] = ("o", (await manager.find(args.target)).path)
    elif args.pid is not None:
        given["pid"] = ("u", args.pid)
    elif args.tid is not None:
        given["tid"] = ("u", args.tid)
    else:
        given["all"] = ("b", True)
    given["children"] = ("b", args.children)
    if args.budget is not None:
        given["budget"] = ("u", args.budget)
    return given


def verbs(parser: argparse.ArgumentParser, helps: Mapping[str, str]) -> dict[str, argparse.ArgumentParser]:
    """Add a parser for each verb, by name and line of help, and return them."""
    choices = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=options.Parser)
    added: dict[str, argparse.ArgumentParser] = {
        name: choices.add_parser(name, help=line, parents=[options.common()], allow_abbrev=False)
        for name, line in helps.items()
    }
    for name in ACTING & added.keys():
        added[name].set_defaults(acts=True)
    return added


def number(text: str) -> int:
    """Argument type of the number of a probe or trace."""
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise UsageError(f"no number of a probe or trace: {text or 'nothing'}", "osdctl probe list, osdctl trace list")
    return int(text)


def tell_troubles(what: Probe | Trace) -> None:
    """Say in which processes it could not be attached."""
    for place in what.places:
        if place.trouble:
            output.remark(f"not in process {place.pid}: {place.trouble}")


def who(record: Mapping[str, Any]) -> str:
    """Return process and thread of a record."""
    pid, tid = record["pid"], record["tid"]
    return f"{pid}" if pid == tid else f"{pid}/{tid}"


def told(what: Probe | Trace, look: Look) -> str:
    """Return what is said of one that was added."""
    if look.json != "off":
        return as_json(what.json(), look.json)
    return f"{what.id}\n" if look.quiet else f"{what.id}\t{shown(what.asked)}\t{shown(what.scope)}\n"


def attached(places: tuple[Place, ...]) -> str:
    """Return in how many processes of how many it is attached."""
    there = sum(not place.trouble for place in places)
    return str(there) if there == len(places) else f"{there}/{len(places)}"


async def remove(found: list[Probe] | list[Trace], args: argparse.Namespace, manager: Manager) -> str:
    """Detach them and return which."""
    for one in found:
        await manager.remove(one)
    if args.look.json != "off":
        return as_json([{"id": one.id} for one in found], args.look.json)
    return "" if args.look.quiet else "".join(f"{one.id}\t{shown(one.asked)}\n" for one in found)


async def records(what: Probe | Trace, manager: Manager, backlog: int) -> AsyncIterator[dict[str, Any]]:
    """Yield what is told of it until it ends; the last records come first."""
    descriptor = await manager.follow(what, min(backlog, MAX_BACKLOG))
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor), limit=MOST_BYTES)
    try:
        while line := await reader.readline():
            record = json.loads(line)
            if "missed" in record:
                output.remark(f"{record['missed']} missed: they came faster than they were read here")
            else:
                yield record
    finally:
        writer.close()
    try:
        await (manager.probe(what.id) if isinstance(what, Probe) else manager.trace(what.id))
    except NoSuch:
        return
    raise OsdctlError(f"the daemon tells no more of {what.id}", "follow it again")
