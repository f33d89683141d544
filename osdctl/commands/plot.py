"""``osdctl plot``: a target's metrics over time, in braille."""

from __future__ import annotations

import argparse
import time

from osdctl import braille, options
from osdctl.errors import NoSuch
from osdctl.manager import Manager
from osdctl.model import Anomaly
from osdctl.text import Colour, Look, as_json, clock, expected, shown

NAME = "plot"
HELP = "plot metrics of a target over time"

WINDOW_US = 900_000_000
LEAST_HEIGHT, MOST_HEIGHT = 4, 12


def arguments(parser: argparse.ArgumentParser) -> None:
    """The target, its metrics and the time."""
    parser.add_argument("target", metavar="ID|SPEC", help="a target's number or its specification")
    parser.add_argument("metrics", nargs="+", metavar="METRIC", help="like cpu.on_cpu; osdctl show lists them")
    parser.add_argument("-S", "--since", type=options.instant, metavar="TIME", help="from then on, default -15min")


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return a chart for each metric."""
    look: Look = args.look
    target = await manager.find(args.target)
    missing = [metric for metric in args.metrics if target.latest and metric not in target.latest]
    if missing:
        known = ", ".join(sorted(target.latest))
        raise NoSuch(f"target {target.id} has no metric {missing[0]}", f"it has {known}")
    since = args.since if args.since is not None else int(time.time() * 1e6) - WINDOW_US
    width = look.width if look.terminal else 80
    series = await manager.series(target, args.metrics, since, 2 * width)
    if look.json != "off":
        rows = [{"metric": name, "times_us": times, "values": values} for name, (times, values) in series.items()]
        return as_json(rows, look.json)
    found = [anomaly for anomaly in await manager.anomalies(target=target) if (anomaly.closed_us or since) >= since]
    units = (await manager.daemon()).units
    room = (look.height if look.terminal else 24) // len(args.metrics) - 4
    height = max(LEAST_HEIGHT, min(MOST_HEIGHT, room))
    charts = []
    for metric in args.metrics:
        times, values = series.get(metric, ([], []))
        unit = units.get(metric, "") or unit_from(found, metric)
        title = look.paint(f"{shown(metric)} of {shown(target.spec)}", Colour.BOLD)
        lines = braille.chart(times, values, unit, width, height)
        charts.append("\n".join([title, *lines, *episodes(found, metric, unit, look)]) + "\n")
    return "\n".join(charts)


def unit_from(anomalies: list[Anomaly], metric: str) -> str:
    """Return the unit that an anomaly told of this metric, or nothing."""
    return next((b.unit for anomaly in anomalies for b in anomaly.metrics if b.metric == metric), "")


def episodes(anomalies: list[Anomaly], metric: str, unit: str, look: Look) -> list[str]:
    """Return a line for each anomaly that this metric is to blame for."""
    lines = []
    for anomaly in anomalies:
        for blame in anomaly.metrics:
            if blame.metric == metric:
                until = clock(anomaly.closed_us) if anomaly.closed_us else "now"
                span = f"{clock(anomaly.opened_us)}-{until}"
                said = f"#{anomaly.id} {span}: expected {expected(blame.low, blame.high, blame.unit or unit)}"
                lines.append("  " + look.paint(said, Colour.RED if anomaly.state == "open" else Colour.NONE))
    return lines
