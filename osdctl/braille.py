"""A line chart in braille characters: two points across and four down in each cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby, pairwise

from osdctl.curve import Curve, Mark, Range
from osdctl.text import Colour, Look, clock, moment, pad, quantity, width_of

# bit of each dot in U+2800, by row from the top and by column; Unicode 15, section 21.1
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_LEAST_WIDTH = 20
_DAY_US = 86_400_000_000


class _Canvas:
    """Dots on a grid; a cell is of the colour of what was drawn there last."""

    def __init__(self, columns: int, height: int) -> None:
        self.cells = [[0] * columns for _ in range(height)]
        self.colours = [[Colour.NONE] * columns for _ in range(height)]

    def dot(self, x: int, y: int, colour: Colour) -> None:
        """Draw a dot."""
        self.cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
        self.colours[y // 4][x // 2] = colour

    def line(self, row: int, look: Look) -> str:
        """Return a row of cells as text."""
        cells = "".join(chr(0x2800 + cell) for cell in self.cells[row]).rstrip("\u2800")
        runs = groupby(zip(cells, self.colours[row], strict=False), key=lambda cell: cell[1])
        return "".join(look.paint("".join(text for text, _ in run), colour) for colour, run in runs)


class _Frame:
    """Where times and values lie on the canvas."""

    def __init__(self, first_us: int, last_us: int, low: float, high: float, columns: int, height: int) -> None:
        self.first_us, self.last_us, self.low, self.high = first_us, last_us, low, high
        self.across, self.down = 2 * columns - 1, 4 * height - 1

    def x(self, time_us: int) -> int:
        """Return a time's dot, from 0."""
        return round(self.across * (time_us - self.first_us) / max(1, self.last_us - self.first_us))

    def y(self, value: float) -> int:
        """Return a value's dot, from the top."""
        return min(self.down, max(0, round(self.down * (self.high - value) / (self.high - self.low))))


def chart(curve: Curve, marks: Sequence[Mark], width: int, height: int, look: Look) -> list[str]:
    """Return the lines of a chart with its axes.

    Drawn are the samples, with their extremes where a point stands for many; dotted, the range that was expected;
    and below them, when the target behaved abnormally.

    Parameters
    ----------
    curve
        What to draw; points that are not finite leave a gap.
    marks
        The target's episodes.
    width, height
        Columns of the whole, and rows of the plot without what stands below it.
    """
    points = [(time, value) for time, value in zip(curve.times_us, curve.values, strict=True) if math.isfinite(value)]
    if not points:
        return ["no samples"]
    low, high = _scale(points, curve)
    labels = {0: quantity(high, curve.unit), height - 1: quantity(low, curve.unit)}
    if height > 2:
        labels[height // 2] = quantity(high - (high - low) * (height // 2) / (height - 1), curve.unit)
    margin = max(width_of(label) for label in labels.values())
    columns = max(_LEAST_WIDTH, width - margin - 2)
    frame = _Frame(points[0][0], points[-1][0], low, high, columns, height)
    canvas = _Canvas(columns, height)
    _draw_range(canvas, frame, curve.expected)
    _draw_points(canvas, frame, points, curve.extremes, [mark for mark in marks if mark.blamed])
    lines = [
        f"{pad(labels.get(row, ''), margin, right=True)} {'┤' if row in labels else '│'}{canvas.line(row, look)}"
        for row in range(height)
    ]
    first, last = (_when(time, frame.last_us - frame.first_us) for time in (frame.first_us, frame.last_us))
    gap = " " * max(1, columns - len(first) - len(last))
    below = _episodes(marks, frame, columns, look)
    return [
        *lines,
        f"{' ' * margin} └{'─' * columns}",
        *([f"{' ' * (margin + 2)}{below}"] if below else []),
        f"{' ' * (margin + 2)}{first}{gap}{last}",
    ]


def _scale(points: Sequence[tuple[int, float]], curve: Curve) -> tuple[float, float]:
    extremes = [value for value in (*curve.extremes.low, *curve.extremes.high) if math.isfinite(value)]
    values = [value for _, value in points] + extremes
    low, high = min(values), max(values)
    # what was expected is shown, unless it is so wide that the samples would be a flat line
    room = (high - low) or abs(high) or 1.0
    expected = [value for value in (*curve.expected.low, *curve.expected.high) if math.isfinite(value)]
    low = min([low, *(max(value, low - room) for value in expected)])
    high = max([high, *(min(value, high + room) for value in expected)])
    if low == high:
        low, high = min(0.0, low), max(low, low + 1.0 if low == 0 else low)
        if low == high:
            high = low + 1.0
    return low, high


def _draw_range(canvas: _Canvas, frame: _Frame, band: Range) -> None:
    """Draw both ends as dotted lines, a dot in every cell."""
    gap = _gap(band.times_us)
    for ends in (band.low, band.high):
        for (at, value), (then, later) in pairwise(zip(band.times_us, ends, strict=True)):
            if then - at > gap or not (math.isfinite(value) and math.isfinite(later)):
                continue
            x0, x1 = frame.x(at), frame.x(then)
            for x in range(max(0, x0 + x0 % 2), min(frame.across, x1) + 1, 2):
                share = (x - x0) / (x1 - x0) if x1 > x0 else 0.0
                canvas.dot(x, frame.y(value + (later - value) * share), Colour.DIM)


def _draw_points(
    canvas: _Canvas, frame: _Frame, points: Sequence[tuple[int, float]], extremes: Range, episodes: Sequence[Mark]
) -> None:
    spread = {time: (high, low) for time, low, high in zip(extremes.times_us, extremes.low, extremes.high, strict=True)}
    gap = _gap([time for time, _ in points])
    before: tuple[int, int, int] | None = None
    for time, value in points:
        colour = Colour.RED if any(mark.from_us <= time <= mark.to_us for mark in episodes) else Colour.NONE
        x, y = frame.x(time), frame.y(value)
        top, bottom = (frame.y(end) for end in spread.get(time, (value, value)))
        joined = before is not None and time - before[2] <= gap
        # joined to the point before, unless samples lack between them
        if before is not None and joined:
            if x - before[0] <= 2:
                top, bottom = min(top, before[1]), max(bottom, before[1])
            for i in range(before[0] + 1, x):
                canvas.dot(i, round(before[1] + (y - before[1]) * (i - before[0]) / (x - before[0])), colour)
        for row in range(top, bottom + 1):
            canvas.dot(x, row, colour)
        before = (x, y, time)


def _gap(times_us: Sequence[int]) -> int:
    """Return the distance from which two points are not joined: samples of an older time lie further apart."""
    steps = sorted(later - time for time, later in pairwise(times_us))
    # the widest step that is no hole is that of the coarsest tenth
    return 3 * max(steps[len(steps) // 2], steps[len(steps) * 9 // 10]) if steps else 0


def _episodes(marks: Sequence[Mark], frame: _Frame, columns: int, look: Look) -> str:
    """Return the line below the axis that says when the target was abnormal, with the numbers of its anomalies."""
    cells = [" "] * columns
    for mark in sorted(marks, key=lambda mark: mark.from_us):
        if mark.to_us < frame.first_us or mark.from_us > frame.last_us:
            continue
        first = frame.x(max(mark.from_us, frame.first_us)) // 2
        last = frame.x(min(mark.to_us, frame.last_us)) // 2
        cells[first : last + 1] = "▲" * (last + 1 - first)
        name = f"#{mark.number}"
        if last - first > len(name):
            cells[first + 1 : first + 1 + len(name)] = name
    text = "".join(cells).rstrip()
    return look.paint(text, Colour.RED)


def _when(time_us: int, span_us: int) -> str:
    """Return the time of day, with the date where the chart is of days."""
    return clock(time_us) if span_us < _DAY_US else moment(time_us)[:16]
