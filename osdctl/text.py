"""Text for people: foreign strings made harmless, widths, quantities, tables."""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any


class Colour(Enum):
    """Select Graphic Rendition parameters."""

    NONE = ""
    BOLD = "1"
    DIM = "2"
    RED = "1;31"
    GREEN = "32"
    YELLOW = "33"
    HEADER = "1;4"
    REVERSE = "7"


STATE_COLOURS = {
    "anomalous": Colour.RED,
    "open": Colour.RED,
    "fail": Colour.RED,
    "learning": Colour.YELLOW,
    "warn": Colour.YELLOW,
    "normal": Colour.GREEN,
    "on": Colour.GREEN,
    "over budget": Colour.RED,
    "ok": Colour.GREEN,
    "waiting": Colour.DIM,
    "gone": Colour.DIM,
}


@dataclass(frozen=True, slots=True)
class Look:
    """How to write: decided once, from the options and from what standard output is."""

    terminal: bool = False
    colour: bool = False
    width: int = 80
    height: int = 24
    legend: bool = True
    quiet: bool = False
    json: str = "off"

    def paint(self, text: str, colour: Colour) -> str:
        """Return the text in that colour, where colour is wanted."""
        return f"\x1b[{colour.value}m{text}\x1b[0m" if self.colour and colour is not Colour.NONE else text

    def state(self, state: str) -> str:
        """Return a state's name in its colour."""
        return self.paint(shown(state), STATE_COLOURS.get(state, Colour.NONE))


def shown(text: str) -> str:
    r"""Return foreign text with everything that could steer a terminal spelled out, like ``\x1b``.

    Covers control characters, escape sequences, line breaks and what turns the writing direction.
    """
    return "".join(character if character.isprintable() else _spelled(character) for character in text)


def _spelled(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width_of(text: str) -> int:
    """Return the columns that printable text takes; East Asian wide characters take two."""
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return the text in at most so many columns, with an ellipsis where it was longer."""
    if width_of(text) <= width:
        return text
    kept, used = "", 0
    for character in text:
        used += _columns(character)
        if used > width - 1:
            break
        kept += character
    return kept + "…" if width > 0 else ""


def folded(text: str, width: int) -> list[str]:
    """Return a line in pieces of at most so many columns, broken between words where that can be."""
    if width_of(text) <= width:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        while width_of(word) > width:
            lines += [line] if line else []
            head = cut(word, width).removesuffix("…") or word[0]
            line, word = "", word[len(head) :]
            lines.append(head)
        longer = f"{line} {word}" if line else word
        if width_of(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return the text filled with spaces to so many columns."""
    fill = " " * max(0, width - width_of(text))
    return fill + text if right else text + fill


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its head, and whether its cells stand to the right."""

    head: str
    right: bool = False
    state: bool = False


def table(columns: Sequence[Column], rows: Iterable[Sequence[str]], look: Look) -> str:
    """Return an aligned table; on a terminal the last column is cut to fit, in a pipe nothing is.

    Cells are foreign text: they are made harmless here.
    """
    cells = [[shown(cell) for cell in row] for row in rows]
    heads = [[column.head for column in columns]] if look.legend else []
    widths = [max((width_of(row[i]) for row in heads + cells), default=0) for i in range(len(columns))]
    if look.terminal:
        _narrow(widths, look.width - 2 * (len(columns) - 1))
    lines = []
    for index, row in enumerate(heads + cells):
        head = bool(heads) and index == 0
        parts = []
        for i, (column, cell) in enumerate(zip(columns, row, strict=True)):
            last = i == len(columns) - 1
            text = cut(cell, widths[i]) if look.terminal else cell
            filled = text if last and not column.right and not head else pad(text, widths[i], right=column.right)
            if head:
                filled = look.paint(filled, Colour.HEADER)
            elif column.state:
                filled = look.paint(filled, STATE_COLOURS.get(cell.partition(",")[0], Colour.NONE))
            parts.append(filled)
        line = "  ".join(parts)
        lines.append(line if look.colour else line.rstrip())
    return "".join(f"{line}\n" for line in lines)


def _narrow(widths: list[int], room: int) -> None:
    """Take what is too much from the last column first, then from the widest."""
    least = 8
    over = sum(widths) - room
    if over > 0:
        taken = min(over, max(0, widths[-1] - 2 * least))
        widths[-1] -= taken
        over -= taken
    while over > 0 and max(widths) > least:
        widest = widths.index(max(widths))
        widths[widest] -= 1
        over -= 1


_NOTHING = 1e-9
"""What is less is a remainder of arithmetic: no counter of a process is so slow."""
_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi")
_DECIMAL = ("", "k", "M", "G", "T", "P")


def number(value: float) -> str:
    """Return a number with three significant digits and no needless zeros."""
    if not math.isfinite(value):
        return "-"
    if abs(value) < _NOTHING:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    if digits > 6:
        return f"{value:.1e}"
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def quantity(value: float, unit: str = "") -> str:
    """Return a value with its unit as the daemon's messages write it: ``212 MiB``, ``1.4 ms``, ``13.2 k calls/s``.

    Seconds per second, a share of one core or of waiting, are told in per cent.
    """
    if not math.isfinite(value):
        return "-"
    if unit == "s/s":
        return f"{number(100 * value)} %"
    if unit == "s" and 0 < abs(value) < 1:
        for factor, name in ((1e3, "ms"), (1e6, "us"), (1e9, "ns")):
            if abs(value) * factor >= 1 or name == "ns":
                return f"{number(value * factor)} {name}"
    base, slash, per = unit.partition("/")
    if base == "bytes":
        scaled, prefix = _scale(value, 1024.0, _BINARY)
        return f"{number(scaled)} {prefix}B{slash}{per}"
    scaled, prefix = _scale(value, 1000.0, _DECIMAL)
    return " ".join(part for part in (number(scaled), prefix, shown(unit)) if part)


def expected(low: float, high: float, unit: str) -> str:
    """Return a range, its unit named once where both ends share it: ``118-131 MiB``."""
    first, last = quantity(low, unit), quantity(high, unit)
    if first == last:
        return last
    head, _, first_unit = first.partition(" ")
    return f"{head}-{last}" if first_unit == last.partition(" ")[2] else f"{first} to {last}"


def _scale(value: float, step: float, prefixes: Sequence[str]) -> tuple[float, str]:
    index = 0
    while abs(value) >= step and index < len(prefixes) - 1:
        value /= step
        index += 1
    return value, prefixes[index]


def probability(value: float) -> str:
    """Return a p-value: ``3e-06``."""
    return f"{value:.0e}" if 0 < value < 0.001 else number(value)


def moment(microseconds: int) -> str:
    """Return local wall-clock time to the second."""
    return _local(microseconds).strftime("%Y-%m-%d %H:%M:%S") if microseconds else "-"


def clock(microseconds: int) -> str:
    """Return local time of day to the second."""
    return _local(microseconds).strftime("%H:%M:%S") if microseconds else "-"


def instant(microseconds: int) -> str:
    """Return local time of day to the microsecond."""
    return _local(microseconds).strftime("%H:%M:%S.%f")


def _local(microseconds: int) -> datetime:
    try:
        return datetime.fromtimestamp(microseconds / 1e6)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0)


def duration(seconds: float) -> str:
    """Return a time span in at most two units: ``1h 3min``, ``42s``, ``350ms``."""
    if seconds < 1:
        return f"{max(0.0, seconds) * 1000:.0f}ms"
    left, parts = round(seconds), []
    for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if left >= size:
            parts.append(f"{left // size}{name}")
            left %= size
        elif parts:
            break
    return " ".join(parts[:2])


def percent(share: float) -> str:
    """Return a share in ``[0, 1]`` as percent."""
    return f"{100 * share:.0f} %" if math.isfinite(share) else "-"


_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int, top: float | None = None) -> str:
    """Return the newest values as bars, one column each; ``top`` is the value of a full bar."""
    recent = list(values)[-width:] if width > 0 else []
    full = top if top is not None else max((value for value in recent if math.isfinite(value)), default=0.0)
    bars = "".join(_bar(value, full) for value in recent)
    return bars.rjust(width)


def _bar(value: float, full: float) -> str:
    if not math.isfinite(value):
        return " "
    share = min(1.0, max(0.0, value / full)) if full > 0 else 0.0
    return _BARS[min(len(_BARS) - 1, int(share * len(_BARS)))]


def as_json(value: Any, mode: str) -> str:
    """Return JSON, ASCII only: ``short`` is one line per element of a list, ``pretty`` is indented."""
    safe = _finite(value)
    if mode == "pretty":
        return json.dumps(safe, indent=2, allow_nan=False) + "\n"
    rows = safe if isinstance(safe, list) else [safe]
    return "".join(json.dumps(row, separators=(",", ":"), allow_nan=False) + "\n" for row in rows)


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
