"""``osdctl trace``: print a line for each call of functions of running programs."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from osdctl import instrument, options, output
from osdctl.command import Answer
from osdctl.manager import Manager
from osdctl.model import Trace
from osdctl.text import Column, Look, as_json, instant, quantity, shown, table

NAME = "trace"
HELP = "print a line for each call of functions of running programs"

COLUMNS = (
    Column("ID", right=True),
    Column("STATE", state=True),
    Column("PROCS", right=True),
    Column("CALLS", right=True),
    Column("LINES", right=True),
    Column("RATE", right=True),
    Column("SCOPE"),
    Column("SIGNATURE"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which."""
    add, remove, _, follow = instrument.verbs(
        parser,
        {
            "add": "print a line for each call of a function",
            "remove": "detach",
            "list": "list the traces",
            "follow": "print the lines of one",
        },
    ).values()
    add.add_argument(
        "signature",
        metavar="SIGNATURE",
        help="like 'libc:open(path: str, flags: int) -> int'; with messages BINARY:SYMBOL or BINARY:0xADDRESS",
    )
    instrument.add_scope(add)
    add.add_argument("--entry", metavar="MESSAGE", help="print this when the function is called")
    add.add_argument(
        "--return", dest="returned", metavar="MESSAGE", help="print this when it returns, like \"'%%d' %% (retval)\""
    )
    add.add_argument("-f", "--follow", action="store_true", help="then print the lines, until Ctrl-C")
    remove.add_argument("numbers", nargs="+", type=instrument.number, metavar="N")
    follow.add_argument("number", type=instrument.number, metavar="N")
    follow.add_argument("-n", "--lines", type=options.count, metavar="N", help="first the last N lines")


def run(args: argparse.Namespace, manager: Manager) -> Awaitable[str | Answer] | AsyncIterator[str]:
    """Do what the verb says."""
    if args.verb == "add":
        return _add_and_follow(args, manager) if args.follow else _add(args, manager)
    if args.verb == "remove":
        return _remove(args, manager)
    if args.verb == "follow":
        return _follow(args, manager)
    return _list(args, manager)


async def _new(args: argparse.Namespace, manager: Manager) -> Trace:
    given = await instrument.scope(args, manager)
    if args.entry is not None:
        given["entry"] = ("s", args.entry)
    if args.returned is not None:
        given["return"] = ("s", args.returned)
    trace = await manager.add_trace(args.signature, given)
    instrument.tell_troubles(trace)
    return trace


async def _add(args: argparse.Namespace, manager: Manager) -> str:
    return instrument.told(await _new(args, manager), args.look)


async def _add_and_follow(args: argparse.Namespace, manager: Manager) -> AsyncIterator[str]:
    trace = await _new(args, manager)
    if args.look.json == "off" and not args.look.quiet:
        output.remark(f"this is trace {trace.id}; it goes on until: osdctl trace remove {trace.id}")
    async for line in _lines(trace, manager, instrument.MAX_BACKLOG, args.look):
        yield line


async def _remove(args: argparse.Namespace, manager: Manager) -> str:
    found = [await manager.trace(each) for each in args.numbers]
    return await instrument.remove(found, args, manager)


async def _list(args: argparse.Namespace, manager: Manager) -> str:
    look: Look = args.look
    traces = await manager.traces()
    if look.json != "off":
        return as_json([trace.json() for trace in traces], look.json)
    if look.quiet:
        return "".join(f"{trace.id}\n" for trace in traces)
    if not traces:
        output.remark("nothing is traced; start with: osdctl trace add 'NAME(ARG: TYPE) -> TYPE' --pid PID")
        return ""
    rows = [
        (
            str(trace.id),
            trace.state,
            instrument.attached(trace.places),
            str(trace.calls),
            str(trace.lines),
            quantity(trace.rate, "/s"),
            trace.scope,
            trace.signature,
        )
        for trace in traces
    ]
    return table(COLUMNS, rows, look)


async def _follow(args: argparse.Namespace, manager: Manager) -> AsyncIterator[str]:
    trace = await manager.trace(args.number)
    async for line in _lines(trace, manager, args.lines or instrument.BACKLOG, args.look):
        yield line


async def _lines(trace: Trace, manager: Manager, backlog: int, look: Look) -> AsyncIterator[str]:
    async for record in instrument.records(trace, manager, backlog):
        yield as_json(record, look.json) if look.json != "off" else _line(record)


def _line(record: dict[str, Any]) -> str:
    return f"{instant(record['time_us'])} {instrument.who(record)} {shown(record['text'])}\n"
