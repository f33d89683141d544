"""Samples, expected ranges and anomalies of the last days, in an SQLite file that keeps within its size."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord import thinning
from osdetectord.core import AnomalyView, BlameView
from osdetectord.thinning import BAND, SAMPLE, STEPS, SUMMARY, Rows

PARTS = {"": 0, "min": 1, "max": 2, "low": 0, "high": 1}
"""What may be asked of a metric behind a colon, and the part of a row that holds it."""
_EXPECTED = ("low", "high")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS columns (number INTEGER PRIMARY KEY, names TEXT UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS row (
    band INTEGER NOT NULL, step_s INTEGER NOT NULL, target INTEGER NOT NULL, time_us INTEGER NOT NULL,
    columns INTEGER NOT NULL, data BLOB NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS row_of_target ON row (target, band, time_us);
CREATE INDEX IF NOT EXISTS row_by_age ON row (step_s, time_us);
CREATE TABLE IF NOT EXISTS anomaly (
    number INTEGER PRIMARY KEY, target INTEGER NOT NULL, opened_us INTEGER NOT NULL, closed_us INTEGER NOT NULL,
    view TEXT NOT NULL, evidence BLOB NOT NULL DEFAULT x'');
CREATE INDEX IF NOT EXISTS anomaly_opened ON anomaly (opened_us);
"""
_VERSION = 2
_ALL = (0, *(step.step_s for step in STEPS))
_MOST_THINNED = 20_000
"""Rows that are thinned at once, and the rest of the coarse step that the next one is of."""
_ROWS_AT_ONCE = 4096
_EVERY_ROW = 1 << 30
_DELETED_AT_ONCE = 2000
_SLICES = 20
"""What is dropped at once for want of room is this part of the time that the history spans."""
_MOST_IN_MEMORY = 16 << 20
_MOST_COLUMNS = 1000
"""Sets of columns whose numbers are remembered."""
_NOT_WHOLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


Row = tuple[int, int, int, int, tuple[str, ...], bytes]
"""Band, step, target, time, names of the columns' metrics, and the samples as little-endian floats."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows that have the same columns and stand for equally long, by target and time; ``numbers`` are SQLite's."""

    band: int
    columns: int
    weight: float
    targets: NDArray[np.int64]
    times_us: NDArray[np.int64]
    numbers: list[int]
    rows: Rows


class HistoryFile:
    """What was written of what was seen.

    Whoever writes, thins or carries the log over waits for the disk: that is for a thread.  Readers have connections of
    their own and, as the file has a write-ahead log, wait for no writer.

    Parameters
    ----------
    path
        The file, or None to keep the history in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._db = _connect(path)
        self._writing = threading.RLock()
        """Held while ``_db`` is used."""
        self._shown, self._showing = self._db, self._writing
        if path is not None:
            self._shown, self._showing = _reader(path), threading.RLock()
        self._numbers: dict[tuple[str, ...], int] = {}

    @classmethod
    def open(cls, path: Path | None) -> tuple[HistoryFile, str]:
        """Return the history and, where it is not the one of the file, a sentence on it.

        A file that is not whole is set aside; on a disk that takes nothing the history is kept in memory.
        """
        try:
            return cls(path), ""
        except sqlite3.DatabaseError as error:
            if path is None:
                raise
            # the low byte is the kind of error; our own findings have none
            code = getattr(error, "sqlite_errorcode", None)
            if code is not None and code & 0xFF not in _NOT_WHOLE:
                return cls(None), f"the history is kept in memory only, {path} can't be used: {error}"
            aside = path.with_name(path.name + ".corrupt")
            path.replace(aside)
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).unlink()
            return cls(path), f"the history was not whole ({error}); it is set aside as {aside}"

    # ---- for a thread that may wait for the disk

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Write samples; raises :class:`OSError` if the disk does not take them, and then none is written."""
        try:
            with self._writing, self._db:
                self._put_rows(
                    (band, step_s, target, time_us, self._number(metrics), data)
                    for band, step_s, target, time_us, metrics, data in rows
                )
        except sqlite3.Error as error:
            self._numbers.clear()  # those that were new are not there
            raise OSError(f"{len(rows)} rows of history are lost: {error}") from None

    def write_anomaly(self, view: AnomalyView, evidence: bytes | None) -> None:
        """Write an anomaly; its evidence stays where None is given.  Raises :class:`OSError`."""
        row = (view.number, view.target, view.opened_us, view.closed_us, json.dumps(asdict(view)), evidence or b"")
        keep = "" if evidence is None else ", evidence = excluded.evidence"
        try:
            with self._writing, self._db:
                self._db.execute(
                    "INSERT INTO anomaly VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET"
                    f" target = excluded.target, closed_us = excluded.closed_us, view = excluded.view{keep}",
                    row,
                )
        except sqlite3.Error as error:
            raise OSError(f"anomaly {view.number} can't be written to the history: {error}") from None

    def thin(self, now_us: int, full_s: float, keep_s: float, most_bytes: int) -> None:
        """Make old samples coarser, and forget the oldest of everything.

        Parameters
        ----------
        now_us
            The present.
        full_s
            Age to which samples stay as they were taken.  To 24 times that, a row stands for 10 s; then for 60 s.
        keep_s
            Age at which samples and anomalies are forgotten.
        most_bytes
            What all of it may take; the oldest goes first.

        Raises
        ------
        OSError
            If the disk is full or gone.
        """
        most_bytes = most_bytes if self._path else min(most_bytes, _MOST_IN_MEMORY)
        try:
            done_us = now_us
            for at, step in enumerate(STEPS):
                with self._writing, self._db:
                    done_us = self._coarsen(step, min(done_us, now_us - round(full_s * 24**at * 1e6)))
            self._forget(now_us - round(keep_s * 1e6))
            while self.used_bytes() > most_bytes and self._drop_oldest():
                # pages that are free again are written anew; they go back to the disk where the limit has fallen
                with self._writing:
                    self._db.executescript("PRAGMA incremental_vacuum")
        except sqlite3.Error as error:
            raise OSError(f"the history can't be thinned: {error}") from None

    def checkpoint(self) -> None:
        """Carry what was written from the log into the file.

        Raises
        ------
        OSError
            If the disk is full or gone; the log goes on.
        """
        if self._path is None:
            return
        try:
            with self._writing:
                self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            raise OSError(f"the history's log can't be carried into its file: {error}") from None

    def used_bytes(self) -> int:
        """Return what samples and anomalies take."""
        with self._writing:
            size, count, free = (
                int(self._db.execute(f"PRAGMA {name}").fetchone()[0])
                for name in ("page_size", "page_count", "freelist_count")
            )
        return size * (count - free)

    # ---- asked

    def series(
        self, target: int, metrics: Sequence[str], since_us: int, max_points: int
    ) -> dict[str, tuple[list[int], list[float]]]:
        """Return times and samples by name, at most ``max_points`` each; where there are more, their means.

        For a thread, as it may take a while.

        A name is a metric's, or that with ``:min`` or ``:max`` for the extremes of what a point stands for, or with
        ``:low`` or ``:high`` for the range that was expected.  NaN is left out.
        """
        wanted = [(name, *split(name)) for name in metrics]
        names = list(dict.fromkeys(metric for _, metric, _ in wanted))
        bands = {int(part in _EXPECTED) for _, _, part in wanted}
        with self._lent() as db:
            found = {band: self._read(db, target, band, since_us, names) for band in bands}
        ends = [(int(times[0]), int(times[-1])) for times, _, _ in found.values() if len(times)]
        if not ends:
            return {name: ([], []) for name in metrics}
        span = (min(first for first, _ in ends), max(last for _, last in ends))
        for band, (times, weights, rows) in found.items():
            if len(times) > max_points:
                starts = thinning.at_most(times, max_points, span)
                last = np.append(starts[1:], len(times)) - 1
                found[band] = (times[last], weights[last], thinning.thinned(rows, weights, starts))
        out: dict[str, tuple[list[int], list[float]]] = {}
        for name, metric, part in wanted:
            times, _, rows = found[int(part in _EXPECTED)]
            values = rows[:, PARTS[part], names.index(metric)]
            known = np.isfinite(values)
            out[name] = (times[known].tolist(), values[known].tolist())
        return out

    def knows(self, target: int) -> bool:
        """Return whether there are samples of a target, which may be watched no more."""
        return bool(self._show("SELECT 1 FROM row WHERE target = ? LIMIT 1", target))

    def names(self) -> frozenset[str]:
        """Return the metrics of which there are, or were, samples."""
        found = self._show("SELECT names FROM columns")
        return frozenset(name for (text,) in found for name in str(text).split("\n"))

    def anomaly(self, number: int) -> AnomalyView | None:
        """Return one anomaly; raises :class:`OSError` if it can't be read."""
        found = self._show("SELECT view FROM anomaly WHERE number = ?", number)
        return _view(found[0][0]) if found else None

    def evidence(self, number: int) -> bytes:
        """Return an anomaly's evidence as it was given, empty where there is none; raises :class:`OSError`.

        For a thread, as it may take a while.
        """
        try:
            with self._lent() as db:
                found = db.execute("SELECT evidence FROM anomaly WHERE number = ?", (number,)).fetchone()
        except sqlite3.Error as error:
            raise OSError(f"the evidence of anomaly {number} can't be read: {error}") from None
        return bytes(found[0]) if found else b""

    def anomalies(
        self, since_us: int, until_us: int, target: int | None, only_open: bool, limit: int
    ) -> list[AnomalyView]:
        """Return anomalies that opened within the time, newest first; raises :class:`OSError`."""
        rows = self._show(
            "SELECT view FROM anomaly WHERE opened_us >= ? AND opened_us <= ? AND (? IS NULL OR target = ?)"
            " AND (NOT ? OR closed_us = 0) ORDER BY number DESC LIMIT ?",
            *(since_us, until_us, target, target, only_open, limit),
        )
        return [_view(text) for (text,) in rows]

    def last_anomaly(self) -> int:
        """Return the highest number that is there, 0 for none; raises :class:`OSError`."""
        return int(self._show("SELECT coalesce(max(number), 0) FROM anomaly")[0][0])

    def close(self) -> None:
        """Close the file."""
        with self._showing:
            self._shown.close()
        with self._writing:
            self._db.close()

    # ---- within

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for long reading: of its own where there is a file."""
        if self._path is None:
            with self._writing:
                yield self._db
            return
        db = _reader(self._path)
        try:
            yield db
        finally:
            db.close()

    def _show(self, query: str, *values: object) -> list[Any]:
        """Return a few rows, beside whoever writes."""
        try:
            with self._showing:
                return self._shown.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise OSError(f"the history can't be read: {error}") from None

    def _number(self, metrics: tuple[str, ...]) -> int:
        known = self._numbers.get(metrics)
        if known is not None:
            return known
        text = "\n".join(metrics)
        self._db.execute("INSERT OR IGNORE INTO columns (names) VALUES (?)", (text,))
        found = int(self._db.execute("SELECT number FROM columns WHERE names = ?", (text,)).fetchone()[0])
        if len(self._numbers) >= _MOST_COLUMNS:
            self._numbers.clear()
        self._numbers[metrics] = found
        return found

    def _put_rows(self, rows: Iterable[tuple[int, int, int, int, int, bytes]]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO row VALUES (?, ?, ?, ?, ?, ?)", rows)

    def _coarsen(self, step: thinning.Step, before_us: int) -> int:
        """Replace rows of the finer step by coarser ones, as far as whole coarse steps are old enough.

        Returns the instant before which no finer ones are left.
        """
        step_us = step.step_s * 1_000_000
        before_us = before_us // step_us * step_us
        old = "step_s = ? AND time_us < ?"
        beyond = f"SELECT time_us FROM row WHERE {old} ORDER BY time_us LIMIT 1 OFFSET ?"
        found = self._db.execute(beyond, (step.of_s, before_us, _MOST_THINNED)).fetchone()
        if found is not None:
            before_us = (found[0] // step_us + 1) * step_us
        # in one piece, so that no coarse step is torn
        where = f"{old} ORDER BY band, target, time_us"
        for group in list(self._groups(self._db, where, (step.of_s, before_us), _EVERY_ROW)):
            steps = group.times_us // step_us
            starts = np.union1d(thinning.runs(steps), thinning.runs(group.targets))
            last = np.append(starts[1:], len(steps)) - 1
            coarse = thinning.thinned(group.rows, np.ones(len(steps)), starts).astype("<f4")
            self._db.executemany("DELETE FROM row WHERE rowid = ?", [(number,) for number in group.numbers])
            self._put_rows(
                (group.band, step.step_s, target, time_us, group.columns, data.tobytes())
                for target, time_us, data in zip(
                    group.targets[last].tolist(), group.times_us[last].tolist(), coarse, strict=True
                )
            )
        return before_us

    def _read(
        self, db: sqlite3.Connection, target: int, band: int, since_us: int, names: Sequence[str]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], Rows]:
        """Return times, weights and rows of these metrics, oldest first; samples as summaries, bands as they are."""
        parts = BAND if band else SUMMARY
        times, weights = [np.zeros(0, np.int64)], [np.zeros(0)]
        blocks: list[Rows] = [np.zeros((0, parts, len(names)), np.float32)]
        where = "target = ? AND band = ? AND time_us >= ? ORDER BY time_us"
        # piece by piece: rows have all metrics, of which few may be wanted
        for group in self._groups(db, where, (target, band, since_us), _ROWS_AT_ONCE):
            known = _names(db, group.columns)
            block = np.full((len(group.times_us), parts, len(names)), np.nan, np.float32)
            for at, name in enumerate(names):
                if name in known:
                    block[:, :, at] = group.rows[:, :, known.index(name)]
            times.append(group.times_us)
            weights.append(np.full(len(block), group.weight))
            blocks.append(block)
        return np.concatenate(times), np.concatenate(weights), np.concatenate(blocks)

    @staticmethod
    def _groups(db: sqlite3.Connection, where: str, values: Sequence[int], at_once: int) -> Iterator[_Group]:
        """Yield what is found, one group for each run of rows that are alike, from so many rows at once."""
        cursor = db.execute(
            f"SELECT band, columns, step_s, target, time_us, rowid, data FROM row WHERE {where}", values
        )
        while found := cursor.fetchmany(at_once):
            bands, columns, steps, targets, times, numbers, data = zip(*found, strict=True)
            kinds = np.array([bands, columns, steps], np.int64)
            changed = (np.diff(kinds, axis=1) != 0).any(axis=0)
            for first, end in pairwise([0, *(np.flatnonzero(changed) + 1).tolist(), len(found)]):
                band, step_s = bands[first], steps[first]
                parts = BAND if band else SUMMARY if step_s else SAMPLE
                rows = np.frombuffer(b"".join(data[first:end]), "<f4").reshape(end - first, parts, -1)
                who, when = np.array(targets[first:end], np.int64), np.array(times[first:end], np.int64)
                weight = float(max(1, step_s))
                yield _Group(band, columns[first], weight, who, when, list(numbers[first:end]), rows)

    def _forget(self, before_us: int) -> None:
        for step in _ALL:
            self._delete("row", "step_s = ? AND time_us < ?", step, before_us)
        # the newest one keeps its number from being given again
        newest = "closed_us != 0 AND number < (SELECT max(number) FROM anomaly)"
        self._delete("anomaly", f"opened_us < ? AND {newest}", before_us)

    def _delete(self, table: str, where: str, *values: int) -> None:
        """Delete in pieces, so that none makes the log long or others wait long."""
        some = f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {where} LIMIT {_DELETED_AT_ONCE})"
        deleted = _DELETED_AT_ONCE
        while deleted == _DELETED_AT_ONCE:
            with self._writing, self._db:
                deleted = self._db.execute(some, values).rowcount

    def _drop_oldest(self) -> bool:
        """Forget the oldest part of everything; returns whether there was something to forget."""
        with self._writing:
            ends = [
                self._db.execute(f"SELECT {end}(time_us) FROM row WHERE step_s = ?", (step,)).fetchone()
                for step in _ALL
                for end in ("min", "max")  # one each: only these are looked up in the index
            ]
            ends += self._db.execute(
                "SELECT min(opened_us), max(opened_us) FROM anomaly WHERE closed_us != 0"
                " AND number < (SELECT max(number) FROM anomaly)"
            ).fetchall()
        known = [time_us for pair in ends for time_us in pair if time_us is not None]
        if not known:
            return False
        first, last = min(known), max(known)
        self._forget(first + max(1, (last - first) // _SLICES))
        return True


def _connect(path: Path | None) -> sqlite3.Connection:
    db = sqlite3.connect(str(path) if path else ":memory:", timeout=5.0, check_same_thread=False)
    try:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        # the file is synced by checkpoint(), and the log's header by the first to write after that
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("PRAGMA journal_size_limit = 4194304")
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


def _reader(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    db.execute("PRAGMA query_only = 1")
    return db


def _names(db: sqlite3.Connection, columns: int) -> list[str]:
    (text,) = db.execute("SELECT names FROM columns WHERE number = ?", (columns,)).fetchone()
    return str(text).split("\n")


def split(name: str) -> tuple[str, str]:
    """Return the metric of a name, and what is asked of it; a function's location has colons of its own."""
    head, bracket, tail = name.rpartition("]")
    metric, _, part = tail.partition(":")
    return f"{head}{bracket}{metric}", part


def _view(text: str) -> AnomalyView:
    value: dict[str, Any] = json.loads(text)
    blames = tuple(BlameView(**blame) for blame in value.pop("blames"))
    return AnomalyView(**{**value, "detectors": tuple(value["detectors"]), "blames": blames})
