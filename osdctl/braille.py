"""A line chart in braille characters: two points across and four down in each cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from osdctl.text import clock, pad, quantity, width_of

# bit of each dot in U+2800, by row from the top and by column; Unicode 15, section 21.1
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_LEAST_WIDTH = 20


def chart(times_us: Sequence[int], values: Sequence[float], unit: str, width: int, height: int) -> list[str]:
    """Return the lines of a chart with its axes.

    Parameters
    ----------
    times_us, values
        Points, oldest first; those that are not finite leave a gap.
    unit
        Unit of the values.
    width, height
        Columns of the whole, and rows of the plot without its axis of time.
    """
    points = [(time, value) for time, value in zip(times_us, values, strict=True) if math.isfinite(value)]
    if not points:
        return ["no samples"]
    low, high = min(value for _, value in points), max(value for _, value in points)
    if low == high:
        low, high = min(0.0, low), max(low, low + 1.0 if low == 0 else low)
        if low == high:
            high = low + 1.0
    labels = {0: quantity(high, unit), height - 1: quantity(low, unit)}
    if height > 2:
        labels[height // 2] = quantity(high - (high - low) * (height // 2) / (height - 1), unit)
    margin = max(width_of(label) for label in labels.values())
    columns = max(_LEAST_WIDTH, width - margin - 2)
    cells = _cells(points, low, high, columns, height)
    lines = [
        f"{pad(labels.get(row, ''), margin, right=True)} {'┤' if row in labels else '│'}"
        + "".join(chr(0x2800 + cell) for cell in cells[row]).rstrip("\u2800")
        for row in range(height)
    ]
    first, last = clock(points[0][0]), clock(points[-1][0])
    gap = " " * max(1, columns - len(first) - len(last))
    return [*lines, f"{' ' * margin} └{'─' * columns}", f"{' ' * (margin + 2)}{first}{gap}{last}"]


def _cells(points: Sequence[tuple[int, float]], low: float, high: float, columns: int, height: int) -> list[list[int]]:
    cells = [[0] * columns for _ in range(height)]
    begin, end = points[0][0], points[-1][0]
    across, down = 2 * columns - 1, 4 * height - 1
    steps = [b - a for (a, _), (b, _) in pairwise(points)]
    gap = 3 * sorted(steps)[len(steps) // 2] if steps else 0
    before: tuple[int, int, int] | None = None
    for time, value in points:
        x = round(across * (time - begin) / (end - begin)) if end > begin else 0
        y = round(down * (high - value) / (high - low))
        ys = range(y, y + 1)
        # joined to the point before, unless samples lack between them
        if before is not None and time - before[2] <= gap and x - before[0] <= 2:
            ys = range(min(y, before[1]), max(y, before[1]) + 1)
        for row in ys:
            cells[row // 4][x // 2] |= _DOTS[row % 4][x % 2]
        if before is not None and time - before[2] <= gap and x - before[0] > 2:
            for i in range(before[0] + 1, x):
                row = round(before[1] + (y - before[1]) * (i - before[0]) / (x - before[0]))
                cells[row // 4][i // 2] |= _DOTS[row % 4][i % 2]
        before = (x, y, time)
    return cells
