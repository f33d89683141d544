"""Vitals: the metrics of a target that matter, what each is now, what is expected, and how it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from osdctl.curve import Curve
from osdctl.model import Anomaly, Target
from osdctl.text import cut, expected, pad, quantity, shown, sparkline

USUAL = (
    "cpu.on_cpu",
    "memory.rss",
    "syscalls.calls",
    "syscalls.errors",
    "network.tcp_rx_bytes",
    "network.tcp_tx_bytes",
    "io.read_chars",
    "io.write_chars",
    "process.fds",
    "process.threads",
)
MOST = 12
PARTS = ("", ":low", ":high")
SPAN_US = 120_000_000
POINTS = 60
NAME_COLUMNS, VALUE_COLUMNS, RANGE_COLUMNS = 24, 15, 20


def chosen(target: Target, anomalies: Sequence[Anomaly]) -> list[str]:
    """Return the metrics to show: those to blame for what is open, then the usual ones that there are."""
    blamed = [blame.metric for anomaly in anomalies if anomaly.target == target.id for blame in anomaly.metrics[:4]]
    wanted = dict.fromkeys((*blamed, *USUAL))
    return [metric for metric in wanted if metric in target.latest][:MOST]


def curves(
    metrics: Sequence[str], units: Mapping[str, str], series: Mapping[str, tuple[list[int], list[float]]]
) -> list[Curve]:
    """Return the curves of an answer that was asked for with :data:`PARTS`."""
    return [Curve.of(metric, units.get(metric, ""), series) for metric in metrics]


def outside(curve: Curve) -> bool:
    """Return whether the newest value is out of the newest range that was expected."""
    if not curve.values or not curve.expected.times_us:
        return False
    return not curve.expected.low[-1] <= curve.values[-1] <= curve.expected.high[-1]


def head() -> str:
    """Return what the columns of :func:`line` are."""
    name, value, said = pad("METRIC", NAME_COLUMNS), pad("NOW", VALUE_COLUMNS, right=True), "EXPECTED"
    return f"{name} {value} {pad(said, RANGE_COLUMNS, right=True)} THE LAST {SPAN_US // 60_000_000} MIN"


def line(curve: Curve, width: int) -> str:
    """Return name, newest value, expected range and the last two minutes."""
    value = quantity(curve.values[-1], curve.unit) if curve.values else "-"
    band = curve.expected
    said = expected(band.low[-1], band.high[-1], curve.unit) if band.times_us else "-"
    name = pad(cut(shown(curve.metric), NAME_COLUMNS), NAME_COLUMNS)
    head = f"{name} {pad(value, VALUE_COLUMNS, right=True)} {pad(said, RANGE_COLUMNS, right=True)} "
    return cut(head + sparkline(curve.values, max(0, min(POINTS, width - len(head)))), width).rstrip()
