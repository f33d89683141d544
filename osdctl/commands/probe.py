"""``osdctl probe``: measure the calls of functions of running programs."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from osdctl import instrument, options, output
from osdctl.command import Answer
from osdctl.errors import NoSuch
from osdctl.manager import Manager
from osdctl.text import Column, Look, as_json, instant, moment, number, quantity, shown, table

NAME = "probe"
HELP = "measure the calls of functions of running programs"

COLUMNS = (
    Column("ID", right=True),
    Column("STATE", state=True),
    Column("PROCS", right=True),
    Column("CALLS", right=True),
    Column("RATE", right=True),
    Column("P50", right=True),
    Column("P99", right=True),
    Column("SCOPE"),
    Column("LOCATION"),
)
PLACE_COLUMNS = (Column("PID", right=True), Column("ADDRESS", right=True), Column("SYMBOL"), Column("BINARY"))


def arguments(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which."""
    add, remove, _, stats, follow = instrument.verbs(
        parser,
        {
            "add": "measure each call of a function",
            "remove": "detach",
            "list": "list the probes",
            "stats": "show one probe",
            "follow": "print a line for each call",
        },
    ).values()
    add.add_argument("location", metavar="LOCATION", help="BINARY:SYMBOL or BINARY:0xADDRESS")
    instrument.add_scope(add)
    remove.add_argument("numbers", nargs="+", type=instrument.number, metavar="N")
    stats.add_argument("number", type=instrument.number, metavar="N")
    stats.add_argument("-f", "--follow", action="store_true", help="print a line each second, until Ctrl-C")
    follow.add_argument("number", type=instrument.number, metavar="N")
    follow.add_argument("-n", "--lines", type=options.count, metavar="N", help="first the last N calls")


def run(args: argparse.Namespace, manager: Manager) -> Awaitable[str | Answer] | AsyncIterator[str]:
    """Do what the verb says."""
    if args.verb == "add":
        return _add(args, manager)
    if args.verb == "remove":
        return _remove(args, manager)
    if args.verb == "stats":
        return _stats_again(args, manager) if args.follow else _stats(args, manager)
    if args.verb == "follow":
        return _follow(args, manager)
    return _list(args, manager)


async def _add(args: argparse.Namespace, manager: Manager) -> str:
    probe = await manager.add_probe(args.location, await instrument.scope(args, manager))
    instrument.tell_troubles(probe)
    return instrument.told(probe, args.look)


async def _remove(args: argparse.Namespace, manager: Manager) -> str:
    found = [await manager.probe(each) for each in args.numbers]
    return await instrument.remove(found, args, manager)


async def _list(args: argparse.Namespace, manager: Manager) -> str:
    look: Look = args.look
    probes = await manager.probes()
    if look.json != "off":
        return as_json([probe.json() for probe in probes], look.json)
    if look.quiet:
        return "".join(f"{probe.id}\n" for probe in probes)
    if not probes:
        output.remark("nothing is probed; start with: osdctl probe add BINARY:SYMBOL --pid PID")
        return ""
    rows = [
        (
            str(probe.id),
            probe.state,
            instrument.attached(probe.places),
            str(probe.calls),
            quantity(probe.rate, "/s"),
            quantity(probe.p50_s, "s"),
            quantity(probe.p99_s, "s"),
            probe.scope,
            probe.location,
        )
        for probe in probes
    ]
    return table(COLUMNS, rows, look)


async def _stats(args: argparse.Namespace, manager: Manager) -> str:
    look: Look = args.look
    probe = await manager.probe(args.number)
    if look.json != "off":
        return as_json(probe.json(), look.json)
    lines = {
        "Probe": f"{probe.id} {shown(probe.location)}",
        "Scope": shown(probe.scope) + (" and its children" if probe.children else ""),
        "State": look.state(probe.state),
        "Since": moment(probe.since_us),
        "Calls": f"{probe.calls}, {quantity(probe.rate, '/s')}",
        "Took": f"{quantity(probe.mean_s, 's')} on average; of the newest calls half less than "
        f"{quantity(probe.p50_s, 's')}, one in a hundred more than {quantity(probe.p99_s, 's')}",
        "Budget": f"{probe.budget} calls/s",
        "Lost": f"{probe.lost}" + (" by all probes and traces together" if probe.lost else ""),
    }
    head = "".join(f"{name:>9}: {text}\n" for name, text in lines.items())
    rows = [
        (str(place.pid or "all"), "-", "not attached", place.trouble)
        if place.trouble
        else (str(place.pid or "all"), hex(place.address), place.symbol, place.path)
        for place in probe.places
    ]
    return f"{head}\n{table(PLACE_COLUMNS, rows, look)}" if rows else head


async def _stats_again(args: argparse.Namespace, manager: Manager) -> AsyncIterator[str]:
    probe = await manager.probe(args.number)
    while True:
        if args.look.json != "off":
            yield as_json(probe.json(), args.look.json)
        else:
            state = "" if probe.state == "on" else f", {shown(probe.state)}"
            yield (
                f"{moment(int(time.time() * 1e6))} {probe.calls} calls, {quantity(probe.rate, '/s')}, "
                f"p50 {quantity(probe.p50_s, 's')}, p99 {quantity(probe.p99_s, 's')}{state}\n"
            )
        await asyncio.sleep(1)
        try:
            probe = await manager.probe(args.number)
        except NoSuch:
            return


async def _follow(args: argparse.Namespace, manager: Manager) -> AsyncIterator[str]:
    probe = await manager.probe(args.number)
    async for record in instrument.records(probe, manager, args.lines or instrument.BACKLOG):
        yield as_json(record, args.look.json) if args.look.json != "off" else _line(record)


def _line(call: dict[str, Any]) -> str:
    parts = [
        f"{instant(call['time_us'])} {instrument.who(call)} took {quantity(call['duration_ns'] * 1e-9, 's')}",
        f"cpu {'-' if call['cpu_ns'] is None else quantity(call['cpu_ns'] * 1e-9, 's')}",
        f"switches {call['voluntary']}+{call['involuntary']}",
        f"result {call['result']:#x}",
    ]
    if call["allocated_bytes"] is not None:
        parts.append(f"memory {number(call['allocated_bytes'])} B")
    if call["depth"]:
        parts.append(f"depth {call['depth']}")
    return ", ".join(parts) + "\n"
