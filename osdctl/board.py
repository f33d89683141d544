"""What ``osdctl top`` shows: targets with their recent scores, and below each what the user has opened."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from osdctl import called, vitals
from osdctl.curve import Curve
from osdctl.inside import Thread
from osdctl.model import Anomaly, Daemon, Process, Target
from osdctl.text import (
    STATE_COLOURS,
    Colour,
    Column,
    Look,
    cut,
    number,
    pad,
    percent,
    quantity,
    shown,
    sparkline,
)

HISTORY = 60
SPARK = 14
PAGE = 10
BUSIEST = 8
"""Threads of a process that are shown."""
CPU, MEMORY = "cpu.on_cpu", "memory.rss"

COLUMNS = (
    Column("ID", right=True),
    Column("STATE", state=True),
    Column("SCORE", right=True),
    Column("HISTORY"),
    Column("CPU", right=True),
    Column("MEMORY", right=True),
    Column("PROCS", right=True),
    Column("TARGET"),
)
_RANK = {"anomalous": 0, "learning": 1, "normal": 2, "waiting": 3, "gone": 4}
SORTS: Mapping[str, Callable[[Target], Any]] = {
    "score": lambda target: (-target.score, target.id),
    "state": lambda target: (_RANK.get(target.state, len(_RANK)), -target.score, target.id),
    "cpu": lambda target: (-target.latest.get(CPU, 0.0), target.id),
    "memory": lambda target: (-target.latest.get(MEMORY, 0.0), target.id),
    "target": lambda target: (target.spec, target.id),
    "id": lambda target: target.id,
}
_MOVES = {"j": 1, "\x1b[B": 1, "\x1bOB": 1, "k": -1, "\x1b[A": -1, "\x1bOA": -1, "\x1b[6~": PAGE, "\x1b[5~": -PAGE}
_OPEN, _CLOSE = ("\x1b[C", "\x1bOC", "l"), ("\x1b[D", "\x1bOD", "h")
_KEYS = (
    "q            leave",
    "up, down     select; j and k, Page Up and Page Down too",
    "Enter        open and close a target or a process; on an anomaly, explain it",
    "e            explain the anomaly, or the newest open one of the target",
    "s            sort by score, state, cpu, memory, target or id",
    "?            these lines",
)

Key = tuple[str, int, int]
"""What a row is of: ``target``, ``anomaly`` or ``process``, with the target's number and its own."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the board: a target's cells, or one text; a row without a key can't be selected."""

    key: Key | None = None
    cells: tuple[str, ...] = ()
    text: str = ""
    colour: Colour = Colour.NONE


@dataclass(slots=True)
class Board:
    """The state of the display; keys and the daemon's answers change it."""

    sort: str = "score"
    selected: Key | None = None
    opened: set[Key] = field(default_factory=set)
    targets: list[Target] = field(default_factory=list)
    anomalies: list[Anomaly] = field(default_factory=list)
    daemon: Daemon | None = None
    note: str = ""
    help: bool = False
    curves: Mapping[int, Sequence[Curve]] = field(default_factory=dict)
    """Of the targets that are open, by number."""
    threads: Mapping[int, Sequence[Thread]] = field(default_factory=dict)
    """Of the processes that are open, by pid."""
    _scores: dict[int, deque[float]] = field(default_factory=dict)

    # ---- told

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
        self.opened = {key for key in self.opened if key[1] in present}
        self._order()

    def take_details(self, curves: Mapping[int, Sequence[Curve]], threads: Mapping[int, Sequence[Thread]]) -> None:
        """Take what is shown of what is open."""
        self.curves, self.threads = curves, threads

    def open_targets(self) -> list[Target]:
        """Return the targets whose metrics are shown."""
        return [target for target in self.targets if ("target", target.id, target.id) in self.opened]

    def open_processes(self) -> list[tuple[Target, set[int]]]:
        """Return the targets with processes whose threads are shown, and the pids of those."""
        pids = {target.id: {each.pid for each in target.processes} for target in self.open_targets()}
        shown_ = {id_: {key[2] for key in self.opened if key[:2] == ("process", id_)} & pids[id_] for id_ in pids}
        return [(target, shown_[target.id]) for target in self.open_targets() if shown_[target.id]]

    def press(self, key: str) -> bool:
        """Do what a key asks for; false when it asks to leave."""
        if key in ("q", "Q", "\x1b", "\x04"):
            return False
        self.help = key == "?" and not self.help
        if key == "s":
            names = list(SORTS)
            self.sort = names[(names.index(self.sort) + 1) % len(names)]
            self._order()
        elif key in _MOVES:
            self._move(_MOVES[key])
        elif self.selected is not None and self.selected[0] != "anomaly":
            if key in ("\r", "\n", " "):
                self.opened ^= {self.selected}
            elif key in _OPEN:
                self.opened |= {self.selected}
            elif key in _CLOSE:
                self.opened -= {self.selected}
        return True

    def explained_by(self, key: str) -> int | None:
        """Return the number of the anomaly that a key asks to explain."""
        if self.selected is None:
            return None
        kind, target, number_ = self.selected
        if kind == "anomaly" and key in ("e", "\r", "\n", " "):
            return number_
        if key != "e":
            return None
        return next((anomaly.id for anomaly in self.anomalies if anomaly.target == target), None)

    def _order(self) -> None:
        self.targets.sort(key=SORTS[self.sort])
        keys = [row.key for row in self.rows()]
        if self.selected not in keys:
            # what was below a target that is still there gives way to it
            above = ("target", self.selected[1], self.selected[1]) if self.selected is not None else None
            self.selected = above if above in keys else next((key for key in keys if key is not None), None)

    def _move(self, step: int) -> None:
        keys = [row.key for row in self.rows() if row.key is not None]
        if self.selected in keys:
            self.selected = keys[min(len(keys) - 1, max(0, keys.index(self.selected) + step))]

    # ---- shown

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
        return f"q quit  s sort ({self.sort})  up/down select  enter open  e explain  ? keys"

    def rows(self, width: int = 80) -> list[Row]:
        """Return all rows, in order; what stands below a target is for a terminal of that width."""
        if self.help:
            return [Row(text=line) for line in _KEYS]
        if not self.targets:
            return (
                [Row(text=called.here("nothing is watched; start with: osdctl watch PID"))]
                if self.daemon is not None
                else []
            )
        units = self.daemon.units if self.daemon is not None else {}
        rows = []
        for target in self.targets:
            rows.append(Row(("target", target.id, target.id), self._cells(target, units)))
            if ("target", target.id, target.id) in self.opened:
                rows += self._below(target, width)
        return rows

    def _cells(self, target: Target, units: Mapping[str, str]) -> tuple[str, ...]:
        learning = target.state == "learning"
        cpu, memory = (target.latest.get(metric) for metric in (CPU, MEMORY))
        return (
            str(target.id),
            (f"learns {percent(target.progress)}" if learning else shown(target.state))
            + (", muted" if target.muted else ""),
            number(target.score),
            # the alarm level, 1, is half the height
            sparkline(list(self._scores.get(target.id, ())), SPARK, top=2.0),
            quantity(cpu, units.get(CPU, "s/s")) if cpu is not None else "-",
            quantity(memory, units.get(MEMORY, "bytes")) if memory is not None else "-",
            str(len(target.processes)),
            shown(target.spec),
        )

    def _below(self, target: Target, width: int) -> list[Row]:
        """Return a target's open anomalies, the metrics that matter and its processes."""
        rows = []
        for anomaly in self.anomalies:
            if anomaly.target == target.id:
                text = f"#{anomaly.id} {shown(anomaly.message)}"
                rows.append(Row(("anomaly", target.id, anomaly.id), text=f"    {text}", colour=Colour.RED))
        curves = self.curves.get(target.id, ())
        if curves:
            rows.append(Row(text=cut(f"    {vitals.head()}", width), colour=Colour.DIM))
        for curve in curves:
            colour = Colour.YELLOW if vitals.outside(curve) else Colour.NONE
            rows.append(Row(text=f"    {vitals.line(curve, width - 4)}", colour=colour))
        for process in target.processes:
            rows.append(self._process(target, process))
            if ("process", target.id, process.pid) in self.opened:
                rows += self._threads(process)
        return rows

    @staticmethod
    def _process(target: Target, process: Process) -> Row:
        learns = f" {percent(process.progress)}" if process.state == "learning" else ""
        said = f"{process.pid:>7} {shown(process.comm)}  {shown(process.state)}{learns}, score {number(process.score)}"
        colour = STATE_COLOURS.get(process.state, Colour.NONE) if process.state == "anomalous" else Colour.DIM
        return Row(("process", target.id, process.pid), text=f"    {said}", colour=colour)

    def _threads(self, process: Process) -> list[Row]:
        threads = self.threads.get(process.pid)
        if threads is None:
            return []
        rows = [
            Row(text=f"    {thread.tid:>11} {shown(thread.comm)}  {percent(thread.cpu)}", colour=Colour.DIM)
            for thread in threads[:BUSIEST]
        ]
        if len(threads) > BUSIEST:
            rows.append(Row(text=f"    {'':>11} and {len(threads) - BUSIEST} more threads", colour=Colour.DIM))
        return rows or [Row(text=f"    {'':>11} its threads can't be seen", colour=Colour.DIM)]


def visible(rows: Sequence[Row], selected: Key | None, height: int) -> Sequence[Row]:
    """Return as many rows as fit, the selected one among them."""
    chosen = next((i for i, row in enumerate(rows) if row.key is not None and row.key == selected), 0)
    first = max(0, min(chosen - height // 2, len(rows) - height))
    return rows[first : first + height]


def frame(board: Board, look: Look) -> str:
    """Return one frame of at most the terminal's size; into a pipe, all of it."""
    height = look.height if look.terminal else 1_000_000
    width = look.width if look.terminal else 1_000_000
    rows = visible(board.rows(look.width), board.selected, max(1, height - 3))
    heads = tuple(column.head for column in COLUMNS)
    cells = [row.cells for row in rows if row.cells]
    widths = [max(len(row[i]) for row in [heads, *cells]) for i in range(len(COLUMNS))]
    lines = [cut(board.title(), width), look.paint(_joined(heads, widths, width), Colour.HEADER)]
    for row in rows:
        selected = row.key is not None and row.key == board.selected
        line = _joined(row.cells, widths, width) if row.cells else cut(row.text, width)
        colour = Colour.REVERSE if selected else row.colour
        if row.cells and not selected:
            colour = STATE_COLOURS.get(
                row.cells[1].partition(" ")[0].rstrip(",").replace("learns", "learning"), Colour.NONE
            )
        lines.append(look.paint(pad(line, look.width) if selected and look.colour else line, colour))
    if look.terminal:
        lines.append(cut(board.keys(), width))
    return "\n".join(lines)


def _joined(cells: Sequence[str], widths: Sequence[int], width: int) -> str:
    padded = [pad(cell, w, right=column.right) for cell, w, column in zip(cells, widths, COLUMNS, strict=True)]
    return cut("  ".join(padded).rstrip(), width)
