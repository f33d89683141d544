"""``osdctl plot``: a target's metrics over time, with what was expected of them, in braille or as a picture."""

from __future__ import annotations

import argparse
import difflib
import time
from pathlib import Path

from osdctl import braille, image, options
from osdctl.curve import PARTS, Curve, marks
from osdctl.errors import NoSuch
from osdctl.manager import Manager
from osdctl.model import TARGET_ROOT, Anomaly, Target
from osdctl.text import Colour, Look, as_json, clock, expected, shown

NAME = "plot"
HELP = "plot metrics of a target over time, with what was expected and when it was abnormal"

WINDOW_US = 900_000_000
LEAST_HEIGHT, MOST_HEIGHT = 4, 12
PICTURE_POINTS = 1500
JSON_POINTS = 1000
NEAREST = 3
AT_ONCE = 12
"""Metrics of one call."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """The target, its metrics, the time and where to."""
    parser.add_argument("target", metavar="ID|SPEC", help="a target's number or its specification")
    parser.add_argument("metrics", nargs="+", metavar="METRIC", help="like cpu.on_cpu; osdctl show lists them")
    parser.add_argument("-S", "--since", type=options.instant, metavar="TIME", help="from then on, default -15min")
    picture = parser.add_mutually_exclusive_group()
    picture.add_argument("--png", type=Path, metavar="FILE", help="draw a picture into that file")
    picture.add_argument("--svg", type=Path, metavar="FILE", help="the same as a drawing that scales")


async def run(args: argparse.Namespace, manager: Manager) -> str:
    """Return a chart for each metric, or nothing where a picture is drawn."""
    look: Look = args.look
    file = args.png or args.svg
    if file is not None:
        image.require()
    path, name, target = await _target(args.target, manager)
    units = (await manager.daemon()).units
    # what is measured of a function has a unit only while it is known; whether there are samples the daemon knows
    missing = [metric for metric in args.metrics if units and metric not in units and "[" not in metric]
    if missing:
        near = difflib.get_close_matches(missing[0], units, n=NEAREST, cutoff=0.5)
        hint = f"is it {' or '.join(near)}?" if near else f"osdctl show {args.target} lists them"
        raise NoSuch(f"there is no metric {missing[0]}", hint)
    now = int(time.time() * 1e6)
    since = args.since if args.since is not None else now - WINDOW_US
    width = look.width if look.terminal else 80
    points = PICTURE_POINTS if file is not None else JSON_POINTS if look.json != "off" else 2 * width
    wanted = list(dict.fromkeys(args.metrics))
    curves = []
    for at in range(0, len(wanted), AT_ONCE):
        names = [metric + part for metric in wanted[at : at + AT_ONCE] for part in PARTS]
        series = await manager.series(path, names, since, points)
        curves += [Curve.of(metric, units.get(metric, ""), series) for metric in wanted[at : at + AT_ONCE]]
    if look.json != "off" and file is None:
        return as_json([curve.json() for curve in curves], look.json)
    found = await manager.anomalies(target=target) if target else await manager.anomalies(since_us=since)
    found = [a for a in found if f"{TARGET_ROOT}{a.target}" == path and (a.closed_us or now) >= since]
    if file is not None:
        kind = "png" if args.png is not None else "svg"
        image.save(file, kind, name, [(curve, marks(found, curve.metric, now)) for curve in curves])
        return ""
    room = (look.height if look.terminal else 24) // len(curves) - 5
    height = max(LEAST_HEIGHT, min(MOST_HEIGHT, room))
    charts = []
    for curve in curves:
        title = look.paint(f"{shown(curve.metric)} of {shown(name)}", Colour.BOLD)
        lines = braille.chart(curve, marks(found, curve.metric, now), width, height, look)
        charts.append("\n".join([title, *lines, *episodes(found, curve, look)]) + "\n")
    return "\n".join(charts)


async def _target(word: str, manager: Manager) -> tuple[str, str, Target | None]:
    """Return path and name of a target; a number may be of one that is watched no more, but was."""
    try:
        target = await manager.find(word)
    except NoSuch:
        if not (word.isascii() and word.isdecimal()):
            raise
        number = word.lstrip("0") or "0"
        return f"{TARGET_ROOT}{number}", f"target {number}", None
    return target.path, target.spec, target


def episodes(anomalies: list[Anomaly], curve: Curve, look: Look) -> list[str]:
    """Return a line for each anomaly that this metric is to blame for."""
    lines = []
    for anomaly in anomalies:
        for blame in anomaly.metrics:
            if blame.metric == curve.metric:
                until = clock(anomaly.closed_us) if anomaly.closed_us else "now"
                span = f"{clock(anomaly.opened_us)}-{until}"
                said = f"#{anomaly.id} {span}: expected {expected(blame.low, blame.high, blame.unit or curve.unit)}"
                lines.append("  " + look.paint(said, Colour.RED if anomaly.state == "open" else Colour.NONE))
    return lines
