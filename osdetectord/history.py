"""Samples and anomalies of the last days, in an SQLite file."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.core import AnomalyView, BlameView

_SCHEMA = """
CREATE TABLE IF NOT EXISTS metric (number INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS sample (
    target INTEGER NOT NULL, time_us INTEGER NOT NULL, numbers BLOB NOT NULL, row BLOB NOT NULL,
    PRIMARY KEY (target, time_us)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS anomaly (
    number INTEGER PRIMARY KEY, target INTEGER NOT NULL, opened_us INTEGER NOT NULL, closed_us INTEGER NOT NULL,
    view TEXT NOT NULL, evidence BLOB NOT NULL DEFAULT x'');
CREATE INDEX IF NOT EXISTS anomaly_opened ON anomaly (opened_us);
"""
_VERSION = 1


class CorruptHistory(Exception):
    """The file was not whole; a new one was begun, and the old one stands under the name in the message."""


class History:
    """What was seen.

    Parameters
    ----------
    path
        The file, or None to keep the history in memory only.
    metrics
        Names of the columns of the rows that will be added.
    """

    def __init__(self, path: Path | None, metrics: Sequence[str]) -> None:
        self._path = path
        self._db = _connect(path)
        self._numbers = self._number(metrics)
        self._waiting: list[tuple[int, int, bytes, bytes]] = []

    @classmethod
    def open(cls, path: Path | None, metrics: Sequence[str]) -> tuple[History, str]:
        """Return the history and, where the old file was corrupt and set aside, a sentence on it."""
        try:
            return cls(path, metrics), ""
        except sqlite3.DatabaseError as error:
            if path is None:
                raise
            aside = path.with_name(path.name + ".corrupt")
            path.replace(aside)
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).unlink()
            return cls(path, metrics), f"the history was not whole ({error}); it is set aside as {aside}"

    def add(self, target: int, time_us: int, row: NDArray[np.float64]) -> None:
        """Queue a row of samples, shape ``(metrics,)``; :meth:`flush` writes it."""
        self._waiting.append((target, time_us, self._numbers, row.astype("<f4").tobytes()))

    def flush(self) -> None:
        """Write what waits.

        Raises
        ------
        OSError
            If the disk is full or gone; what waited is lost then, and nothing else.
        """
        waiting, self._waiting = self._waiting, []
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO sample VALUES (?, ?, ?, ?)", waiting)
        except sqlite3.Error as error:
            raise OSError(f"{len(waiting)} rows of history are lost: {error}") from None

    def thin(self, before_us: int) -> None:
        """Forget samples from before ``before_us``."""
        try:
            with self._db:
                self._db.execute("DELETE FROM sample WHERE time_us < ?", (before_us,))
        except sqlite3.Error as error:
            raise OSError(f"the history can't be thinned: {error}") from None

    def series(
        self, target: int, metrics: Sequence[str], since_us: int, max_points: int
    ) -> dict[str, tuple[list[int], list[float]]]:
        """Return times and samples by metric, thinned evenly to at most ``max_points`` each; NaN is left out."""
        names: dict[int, str] = dict(self._db.execute("SELECT number, name FROM metric").fetchall())
        out: dict[str, tuple[list[int], list[float]]] = {name: ([], []) for name in metrics}
        for time_us, numbers, row in self._rows(target, since_us, max_points):
            values = np.frombuffer(row, "<f4")
            for number, value in zip(np.frombuffer(numbers, "<u2").tolist(), values.tolist(), strict=True):
                name = names.get(number, "")
                if name in out and value == value:
                    out[name][0].append(time_us)
                    out[name][1].append(value)
        return out

    def put_anomaly(self, view: AnomalyView, evidence: bytes | None = None) -> None:
        """Write an anomaly's newest state; its evidence stays where none is given."""
        text = json.dumps(asdict(view))
        row = (view.number, view.target, view.opened_us, view.closed_us, text, evidence or b"")
        keep = "" if evidence is None else ", evidence = excluded.evidence"
        try:
            with self._db:
                self._db.execute(
                    "INSERT INTO anomaly VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET"
                    f" target = excluded.target, closed_us = excluded.closed_us, view = excluded.view{keep}",
                    row,
                )
        except sqlite3.Error as error:
            raise OSError(f"anomaly {view.number} can't be written to the history: {error}") from None

    def anomaly(self, number: int) -> AnomalyView | None:
        """Return one anomaly."""
        found = self._db.execute("SELECT view FROM anomaly WHERE number = ?", (number,)).fetchone()
        return _view(found[0]) if found else None

    def evidence(self, number: int) -> bytes:
        """Return an anomaly's evidence, empty where there is none."""
        found = self._db.execute("SELECT evidence FROM anomaly WHERE number = ?", (number,)).fetchone()
        return bytes(found[0]) if found else b""

    def anomalies(
        self, since_us: int, until_us: int, target: int | None, only_open: bool, limit: int
    ) -> list[AnomalyView]:
        """Return anomalies that opened within the time, newest first."""
        rows = self._db.execute(
            "SELECT view FROM anomaly WHERE opened_us >= ? AND opened_us <= ? AND (? IS NULL OR target = ?)"
            " AND (NOT ? OR closed_us = 0) ORDER BY number DESC LIMIT ?",
            (since_us, until_us, target, target, only_open, limit),
        )
        return [_view(text) for (text,) in rows]

    def last_anomaly(self) -> int:
        """Return the highest number given so far, 0 for none."""
        return int(self._db.execute("SELECT coalesce(max(number), 0) FROM anomaly").fetchone()[0])

    def close_open(self, at_us: int) -> list[AnomalyView]:
        """Close what a daemon that died left open, and return it."""
        left = self.anomalies(0, 1 << 62, None, True, 1 << 30)
        closed = [replace(view, state="closed", closed_us=at_us) for view in left]
        for view in closed:
            self.put_anomaly(view)
        return closed

    def close(self) -> None:
        """Write what waits and close the file."""
        with suppress(OSError):
            self.flush()
        self._db.close()

    def _number(self, metrics: Sequence[str]) -> bytes:
        with self._db:
            self._db.executemany("INSERT OR IGNORE INTO metric (name) VALUES (?)", [(name,) for name in metrics])
        numbers = dict(self._db.execute("SELECT name, number FROM metric").fetchall())
        return np.array([numbers[name] for name in metrics], "<u2").tobytes()

    def _rows(self, target: int, since_us: int, max_points: int) -> Iterator[tuple[int, bytes, bytes]]:
        where = "FROM sample WHERE target = ? AND time_us >= ?"
        (count,) = self._db.execute(f"SELECT count(*) {where}", (target, since_us)).fetchone()
        step = max(1, -(-count // max(1, max_points)))
        rows = self._db.execute(f"SELECT time_us, numbers, row {where} ORDER BY time_us", (target, since_us))
        return (row for at, row in enumerate(rows) if (count - 1 - at) % step == 0)


def _connect(path: Path | None) -> sqlite3.Connection:
    db = sqlite3.connect(str(path) if path else ":memory:", timeout=5.0)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(found)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"it is of version {version}, this program writes {_VERSION}")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_VERSION}")
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _view(text: str) -> AnomalyView:
    value: dict[str, Any] = json.loads(text)
    blames = tuple(BlameView(**blame) for blame in value.pop("blames"))
    return AnomalyView(**{**value, "detectors": tuple(value["detectors"]), "blames": blames})
