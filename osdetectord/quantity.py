"""A number with its unit, as people read it."""

from __future__ import annotations

import math

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DECIMAL = ("", " k", " M", " G", " T")


def quantity(value: float, unit: str) -> str:
    """Return ``value`` with its unit, three significant digits.

    Parameters
    ----------
    value
        In ``unit``.
    unit
        A :class:`~osdetectord.metric.Metric`'s sample unit.  Bytes are told in powers of 1024, seconds per
        second (a share of one core, or of waiting) in per cent.
    """
    if not math.isfinite(value):
        return "unknown"
    if unit == "s/s":
        return f"{_digits(100 * value)} %"
    if unit == "s":
        for factor, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
            if abs(value) >= factor:
                return f"{_digits(value / factor)} {name}"
        return f"{_digits(value * 1e9)} ns" if value else "0 s"
    base, _, per = unit.partition("/")
    tail = f"/{per}" if per else ""
    if base == "bytes":
        scaled, name = _scaled(value, 1024.0, _BINARY)
        return f"{_digits(scaled)} {name}{tail}"
    scaled, name = _scaled(value, 1000.0, _DECIMAL)
    return f"{_digits(scaled)}{name} {base}{tail}".replace("  ", " ")


def span(low: float, high: float, unit: str) -> str:
    """Return a range, its unit named once where both ends share it."""
    first, last = quantity(low, unit), quantity(high, unit)
    if first == last:
        return last
    head, _, first_unit = first.partition(" ")
    if first_unit == last.partition(" ")[2]:
        return f"{head}-{last}"
    return f"{first} to {last}"


def _scaled(value: float, base: float, names: tuple[str, ...]) -> tuple[float, str]:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return value, names[power]


def _digits(value: float) -> str:
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(places, 6)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if text not in ("-0", "") else "0"
