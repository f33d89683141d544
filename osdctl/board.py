"""What ``osdctl top`` shows: rows of targets with their recent scores, in the order and depth the user chose."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from osdctl.model import Anomaly, Daemon, Target
from osdctl.text import (
    STATE_COLOURS,
    Colour,
    Column,
    Look,
    cut,
    expected,
    number,
    pad,
    percent,
    quantity,
    shown,
    sparkline,
)

HISTORY = 60
SPARK = 16

COLUMNS = (
    Column("ID", right=True),
    Column("STATE", state=True),
    Column("LEARNED", right=True),
    Column("SCORE", right=True),
    Column("HISTORY"),
    Column("PROCS", right=True),
    Column("TARGET"),
)
_RANK = {"anomalous": 0, "learning": 1, "normal": 2, "waiting": 3, "gone": 4}
_SORTS: Mapping[str, Callable[[Target], Any]] = {
    "score": lambda target: (-target.score, target.id),
    "state": lambda target: (_RANK.get(target.state, len(_RANK)), -target.score, target.id),
    "target": lambda target: (target.spec, target.id),
    "id": lambda target: target.id,
}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the board: a target's cells, or one text under a target that is expanded."""

    cells: tuple[str, ...] = ()
    text: str = ""
    selected: bool = False


@dataclass(slots=True)
class Board:
    """The state of the display; keys and the daemon's answers change it."""

    sort: str = "score"
    selected: int | None = None
    expanded: set[int] = field(default_factory=set)
    targets: list[Target] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    daemon: Daemon | None = None
    note: str = ""
    _scores: dict[int, deque[float]] = field(default_factory=dict)

    def take(self, daemon: Daemon, targets: Sequence[Target], anomalies: Sequence[Anomaly]) -> None:
        """Take the daemon's newest answers."""
        self.daemon = daemon
        self.anomalies = list(anomalies)
        self.targets = list(targets)
        for target in targets:
            self._scores.setdefault(target.id, deque(maxlen=HISTORY)).append(target.score)
        present = {target.id for target in targets}
        for number_ in self._scores.keys() - present:
            del self._scores[number_]
        self.expanded &= present
        self._order()

    def _order(self) -> None:
        self.targets.sort(key=_SORTS[self.sort])
        if self.selected not in {target.id for target in self.targets}:
            self.selected = self.targets[0].id if self.targets else None

    def press(self, key: str) -> bool:
        """Do what a key asks for; false when it asks to leave."""
        if key in ("q", "Q", "\x1b", "\x04"):
            return False
        if key == "s":
            names = list(_SORTS)
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
            self._order()
        elif key in ("j", "\x1b[B", "\x1bOB"):
            self._move(1)
        elif key in ("k", "\x1b[A", "\x1bOA"):
            self._move(-1)
        elif key in ("\r", "\n", " ") and self.selected is not None:
            self.expanded ^= {self.selected}
        return True

    def _move(self, step: int) -> None:
        ids = [target.id for target in self.targets]
        if self.selected in ids:
            self.selected = ids[min(len(ids) - 1, max(0, ids.index(self.selected) + step))]

    def title(self) -> str:
        """Return the line on top."""
        if self.daemon is None:
            return "osdetectord"
        loud = sum(target.state == "anomalous" for target in self.targets)
        lost = sum(self.daemon.lost.values())
        parts = [
            f"osdetectord {shown(self.daemon.version)}",
            f"targets {len(self.targets)}",
            f"anomalous {loud}",
            f"open anomalies {len(self.anomalies)}",
            *([f"cpu {number(self.daemon.cost['cpu_percent'])} %"] if "cpu_percent" in self.daemon.cost else []),
            *([f"lost {lost}"] if lost else []),
            *([self.note] if self.note else []),
        ]
        return ", ".join(parts)

    def keys(self) -> str:
        """Return the line at the foot."""
        return f"q quit  s sort ({self.sort})  up/down select  enter expand  e explain"

    def rows(self) -> list[Row]:
        """Return all rows, in order."""
        rows = []
        for target in self.targets:
            cells = (
                str(target.id),
                shown(target.state),
                percent(target.progress),
                number(target.score),
                # the alarm level, 1, is half the height
                sparkline(list(self._scores.get(target.id, ())), SPARK, top=2.0),
                str(len(target.processes)),
                shown(target.spec),
            )
            rows.append(Row(cells=cells, selected=target.id == self.selected))
            if target.id in self.expanded:
                rows += [Row(text=text) for text in self._below(target)]
        return rows

    def _below(self, target: Target) -> list[str]:
        lines = []
        for anomaly in self.anomalies:
            if anomaly.target == target.id:
                lines += [
                    f"#{anomaly.id} {shown(blame.metric)} {quantity(blame.observed, blame.unit)}, "
                    f"expected {expected(blame.low, blame.high, blame.unit)} ({percent(blame.share)})"
                    for blame in anomaly.metrics[:3]
                ]
        for process in target.processes:
            lines.append(f"{process.pid} {shown(process.comm)} {shown(process.state)}, score {number(process.score)}")
        units = self.daemon.units if self.daemon is not None else {}
        for name, value in sorted(target.latest.items()):
            lines.append(f"{shown(name)} {quantity(value, units.get(name, ''))}")
        return lines

    def newest_anomaly(self) -> int | None:
        """Return the number of the selected target's newest open anomaly."""
        return next((anomaly.id for anomaly in self.anomalies if anomaly.target == self.selected), None)


def visible(rows: Sequence[Row], height: int) -> Sequence[Row]:
    """Return as many rows as fit, the selected one among them."""
    chosen = next((i for i, row in enumerate(rows) if row.selected), 0)
    first = max(0, min(chosen - height // 2, len(rows) - height))
    return rows[first : first + height]


def frame(board: Board, look: Look) -> str:
    """Return one frame of at most the terminal's size; into a pipe, all of it."""
    height = look.height if look.terminal else 1_000_000
    width = look.width if look.terminal else 1_000_000
    rows = visible(board.rows(), max(1, height - 3))
    heads = tuple(column.head for column in COLUMNS)
    cells = [row.cells for row in rows if row.cells]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(COLUMNS))]
    lines = [cut(board.title(), width), look.paint(_joined(heads, widths, width), Colour.HEADER)]
    for row in rows:
        line = _joined(row.cells, widths, width) if row.cells else cut(f"      {row.text}", width)
        colour = Colour.REVERSE if row.selected else _colour(row)
        lines.append(look.paint(pad(line, look.width) if row.selected and look.colour else line, colour))
    if look.terminal:
        lines.append(cut(board.keys(), width))
    return "\n".join(lines)


def _joined(cells: Sequence[str], widths: Sequence[int], width: int) -> str:
    padded = [pad(cell, w, right=column.right) for cell, w, column in zip(cells, widths, COLUMNS, strict=True)]
    return cut("  ".join(padded).rstrip(), width)


def _colour(row: Row) -> Colour:
    return STATE_COLOURS.get(row.cells[1], Colour.NONE) if row.cells else Colour.DIM
