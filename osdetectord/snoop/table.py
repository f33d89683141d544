"""A CSV file that is whole at every moment: its header first, whole rows only, and what is lost is counted."""

from __future__ import annotations

import csv
import errno
import io
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from osdetectord.errors import OsdetectorError

END = "END"
Tell = Callable[[str], None]


class CannotWrite(OsdetectorError):
    """A file can't be made, or has no room for its header."""


class CsvFile:
    """Rows below a header.

    The file takes its place only with its header in it, so that there is never one without.  A write that fails
    costs its rows and nothing else: what it left of them is cut off, and the next one is tried again.

    Parameters
    ----------
    path
        Where; its directory is made if need be, an older file is replaced.
    columns
        The header.
    tell
        Takes a line for people when rows are lost, and when they are no longer.

    Raises
    ------
    CannotWrite
        If it can't be made.
    """

    def __init__(self, path: Path, columns: Sequence[str], tell: Tell) -> None:
        self.path = path
        self.rows = 0
        self.lost = 0
        self._tell = tell
        self._failing = 0
        self._end = 0
        try:
            make_directory(path.parent)
            self._fd, self._regular = _open(path, text_of([columns]))
        except OSError as error:
            raise CannotWrite(f"{path}: can't be written: {_reason(error)}") from None
        if self._regular:
            self._end = os.lseek(self._fd, 0, os.SEEK_CUR)

    def write(self, data: bytes, rows: int) -> None:
        """Append whole rows."""
        if not data:
            return
        try:
            _write_all(self._fd, data)
        except OSError as error:
            self.lost += rows
            if not self._failing:
                self._tell(f"{self.path}: {_reason(error)}: rows are lost")
            self._failing += rows
            self._cut_off()
            return
        if self._failing:
            self._tell(f"{self.path}: written again, {self._failing} rows are missing")
            self._failing = 0
        self.rows += rows
        self._end += len(data)

    def add(self, rows: Sequence[Sequence[object]]) -> None:
        """Append rows."""
        self.write(text_of(rows), len(rows))

    def end(self) -> None:
        """Append the row that says that nothing follows, and close."""
        try:
            _write_all(self._fd, f"{END}\n".encode())
        except OSError as error:
            self._tell(f"{self.path}: {_reason(error)}: it has no row {END}")
            self._cut_off()
        finally:
            os.close(self._fd)

    def _cut_off(self) -> None:
        if self._regular:
            os.ftruncate(self._fd, self._end)
            os.lseek(self._fd, self._end, os.SEEK_SET)


def make_directory(path: Path) -> None:
    """Make a directory with those above it, if need be; raises OSError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def text_of(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as CSV; names that are no text keep their bytes, spelled out."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "backslashreplace")


def replace(path: Path, data: bytes) -> None:
    """Put a file in its place at once; raises OSError."""
    fd, _ = _open(path, data)
    os.close(fd)


def _open(path: Path, data: bytes) -> tuple[int, bool]:
    """A descriptor of a file that begins with ``data``, and whether it is a regular one."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        regular = True
    if not regular:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write_all(fd, data)
        except OSError:
            os.close(fd)
            raise
        return fd, False
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _write_all(fd, data)
        os.replace(unfinished, path)
    except OSError:
        os.close(fd)
        os.unlink(unfinished)
        raise
    return fd, True


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
