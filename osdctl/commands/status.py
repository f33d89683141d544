"""``osdctl status``: the daemon, what it watches, what it costs and what it lost."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from osdctl import called
from osdctl.manager import Manager
from osdctl.model import Daemon
from osdctl.text import Colour, Look, as_json, folded, number, quantity, shown

NAME = "status"
HELP = "show the daemon, what it watches, what it costs and what it lost"

STATES = ("anomalous", "learning", "normal", "waiting", "gone")
DAY_US = 86_400_000_000
LABEL = 11


def arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return a few lines on the daemon as a whole."""
    look: Look = args.look
    daemon = await manager.daemon()
    targets = await manager.targets()
    states, muted = Counter(target.state for target in targets), sum(target.muted for target in targets)
    opened = len(await manager.anomalies(only_open=True))
    day = len(await manager.anomalies(since_us=int(time.time() * 1e6) - DAY_US))
    place = (await manager.connected()).place
    if look.json != "off":
        row: dict[str, Any] = {
            **daemon.json(),
            "bus": place,
            "targets": {state: states[state] for state in STATES},
            "anomalies": {"open": opened, "last_day": day},
        }
        return as_json(row, look.json)
    counts = ", ".join(f"{states[state]} {look.state(state)}" for state in STATES if states[state])
    quiet = f", {muted} muted" if muted else ""
    lines = {
        "Daemon": f"osdetectord {shown(daemon.version)}, {look.paint('running', Colour.GREEN)} on {shown(place)}",
        "Targets": f"{states.total()} ({counts}){quiet}"
        if counts
        else called.here("none; start with: osdctl watch PID"),
        "Anomalies": f"{look.paint(f'{opened} open', Colour.RED if opened else Colour.NONE)}, {day} in the last 24 h",
        "Worker": shown(daemon.worker),
        "Hooks": hooks(daemon, look),
        "Detectors": detectors(daemon),
        "Cost": cost(daemon.cost),
        "Lost": lost(daemon.lost, look),
    }
    return "".join(line(name, text or "-", look) for name, text in lines.items())


def line(name: str, text: str, look: Look) -> str:
    """Return a line; on a terminal one that is too long goes on below itself."""
    parts = folded(text, max(20, look.width - LABEL)) if look.terminal else [text]
    return f"{name:>9}: " + f"\n{' ' * LABEL}".join(parts) + "\n"


def hooks(daemon: Daemon, look: Look) -> str:
    """Return which hook serves each collector; what serves none stands out."""
    best = [shown(row.collector) for row in daemon.collectors if row.rank == 0 and not row.off]
    parts = [f"{', '.join(best)} by the best there is"] if best else []
    for row in daemon.collectors:
        if row.rank < 0:
            parts.append(look.paint(f"{shown(row.collector)} none", Colour.RED))
        elif row.rank:
            parts.append(f"{shown(row.collector)} by {shown(row.hook)} (fallback)")
        elif row.off:
            parts.append(f"{shown(row.collector)} {shown(row.why)}")
    return "; ".join(parts) + (
        called.here("; osdctl doctor says why") if any(row.rank for row in daemon.collectors) else ""
    )


def detectors(daemon: Daemon) -> str:
    """Return which evidences take part, and why the others do not; and that nothing is judged where none does."""
    nothing = "nothing is judged; " if daemon.detectors and all(one.state != "on" for one in daemon.detectors) else ""
    groups: dict[tuple[str, str], list[str]] = {}
    for one in daemon.detectors:
        groups.setdefault((one.state, one.why), []).append(shown(one.name))
    return nothing + "; ".join(
        f"{shown(state)}: {', '.join(names)}" + (f" ({shown(why)})" if why else "")
        for (state, why), names in groups.items()
    )


def cost(values: Mapping[str, float]) -> str:
    """Return the daemon's own consumption; the unit is the last word of each name."""
    units = {"percent": "%", "bytes": "bytes", "s": "s", "ms": "ms"}
    parts = []
    for name, value in sorted(values.items()):
        label, _, last = name.rpartition("_")
        if label and last in units:
            if name.endswith("cpu_s"):
                label += " time"  # the other cpu is the share of one that is used now
            parts.append(f"{shown(label).replace('_', ' ')} {quantity(value, units[last])}")
        else:
            parts.append(f"{shown(name).replace('_', ' ')} {number(value)}")
    return ", ".join(parts)


def lost(values: Mapping[str, int], look: Look) -> str:
    """Return what was lost since start, by cause."""
    parts = [f"{shown(cause).replace('_', ' ')} {amount}" for cause, amount in sorted(values.items()) if amount]
    return look.paint(", ".join(parts), Colour.YELLOW) if parts else "nothing"
