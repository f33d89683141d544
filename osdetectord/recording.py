"""Samples of watched processes as CSV files, one for each process, as ``osdctl detect`` reads them."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from osdetectord.process import Process

PARTS = 16
"""A file that has grown to this part of all the room is followed by another of the same process."""

IDLE_FLUSHES = 360
"""A process without a row for so long, an hour, is let go: a row that comes later begins a new file."""

MOST_ROWS = 120
"""Rows of a process that wait for a disk that does not answer; more are lost."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._+-]")


@dataclass(slots=True)
class _Stream:
    path: Path | None = None
    """The file that is written now."""
    bytes: int = 0
    rows: list[str] = field(default_factory=list)
    """Lines not yet written."""
    comm: str = ""
    flushes: int = 0
    """Since it had a row."""


class Recording:
    """Writes what it is given with the next :meth:`flush`, which another thread may do.

    Parameters
    ----------
    directory
        Where the files are: ``COMM-PID-TIME.csv``, by the UTC time of their first row.
    metrics
        Names of the columns after ``t``, which is in seconds since 1970.
    """

    def __init__(self, directory: Path, metrics: Sequence[str]) -> None:
        self._directory = directory
        self._header = ",".join(("t", *metrics)) + "\n"
        self._streams: dict[Process, _Stream] = {}
        self._lock = threading.Lock()
        self.lost = 0
        """Rows that could not be written."""

    def add(self, process: Process, comm: str, time_us: int, values: Sequence[float]) -> None:
        """Take a row; what is not known (NaN) becomes an empty field."""
        line = ",".join((f"{time_us / 1e6:.6f}", *("" if value != value else f"{value:.10g}" for value in values)))
        with self._lock:
            stream = self._streams.setdefault(process, _Stream())
            stream.comm = comm
            if len(stream.rows) < MOST_ROWS:
                stream.rows.append(line + "\n")
            else:
                self.lost += 1

    def flush(self, limit_bytes: int) -> None:
        """Write what was taken since the last time, each file up to its last whole row.

        Parameters
        ----------
        limit_bytes
            What all CSV files in the directory may take; the oldest go first.

        Raises
        ------
        OSError
            If not all could be written: those rows are lost, and counted.
        """
        with self._lock:
            waiting = [(process, stream, stream.rows) for process, stream in self._streams.items() if stream.rows]
            for stream in self._streams.values():
                stream.flushes = 0 if stream.rows else stream.flushes + 1
                stream.rows = []
            # who ended, or is not watched any more
            self._streams = {p: stream for p, stream in self._streams.items() if stream.flushes < IDLE_FLUSHES}
        trouble: OSError | None = None
        for process, stream, rows in waiting:
            try:
                self._append(process, stream, rows, limit_bytes // PARTS)
            except OSError as error:
                trouble = error
                self.lost += len(rows)
        self._make_room(limit_bytes)
        if trouble is not None:
            raise trouble

    def _append(self, process: Process, stream: _Stream, rows: list[str], most_bytes: int) -> None:
        if stream.path is None or stream.bytes > most_bytes or not stream.path.exists():
            first_s = float(rows[0].partition(",")[0])
            time = datetime.fromtimestamp(first_s, UTC).strftime("%Y%m%dT%H%M%SZ")
            name = f"{_UNSAFE.sub('_', stream.comm) or 'process'}-{process.pid}-{time}.csv"
            stream.path, stream.bytes = self._directory / name, 0
        self._directory.mkdir(parents=True, exist_ok=True)
        with stream.path.open("ab") as file:
            before = file.tell()
            text = "".join(rows) if before else self._header + "".join(rows)
            try:
                file.write(text.encode())
                file.flush()
            except OSError:
                file.truncate(before)
                raise
            stream.bytes = file.tell()

    def _make_room(self, limit_bytes: int) -> None:
        found = []
        for path in self._directory.glob("*.csv"):
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= limit_bytes:
                break
            path.unlink(missing_ok=True)
            total -= size
