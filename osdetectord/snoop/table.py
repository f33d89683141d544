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


class Appended:
    """Whole rows at the end of a file that is open.

    A write that fails costs its rows and nothing else: what it left of them is cut off, and the next one is tried
    again.

    Parameters
    ----------
    path
        Its name.
    descriptor
        Stays the caller's.
    tell
        Takes a line for people when rows are lost, and when they are no longer.
    """

    def __init__(self, path: Path, descriptor: int, tell: Tell) -> None:
        self.path, self.descriptor = path, descriptor
        self.rows = 0
        self.lost = 0
        self._tell = tell
        self._failing = 0
        self._regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self.size = os.lseek(descriptor, 0, os.SEEK_CUR) if self._regular else 0
        """Bytes, of a regular file."""

    def write(self, data: bytes, rows: int) -> None:
        """Append whole rows."""
        if not data:
            return
        try:
            _write_all(self.descriptor, data)
        except OSError as error:
            self.lost += rows
            if not self._failing:
                self._tell(f"{self.path}: {reason(error)}: rows are lost")
            self._failing += rows
            self._cut_off()
            return
        if self._failing:
            self._tell(f"{self.path}: written again, {self._failing} rows are missing")
            self._failing = 0
        self.rows += rows
        self.size += len(data)

    def _cut_off(self) -> None:
        if self._regular:
            os.ftruncate(self.descriptor, self.size)
            os.lseek(self.descriptor, self.size, os.SEEK_SET)


class CsvFile(Appended):
    """Rows below a header.

    The file takes its place only with its header in it, so that there is never one without.

    Parameters
    ----------
    path
        Where; its directory is made if need be, an older file is replaced.
    columns
        The header.
    tell
        Takes a line for people.

    Raises
    ------
    CannotWrite
        If it can't be made.
    """

    def __init__(self, path: Path, columns: Sequence[str], tell: Tell) -> None:
        try:
            make_directory(path.parent)
            descriptor = _open(path, text_of([columns]))
        except OSError as error:
            raise CannotWrite(f"{path}: can't be written: {reason(error)}") from None
        super().__init__(path, descriptor, tell)

    def add(self, rows: Sequence[Sequence[object]]) -> None:
        """Append rows."""
        self.write(text_of(rows), len(rows))

    def take_back(self, rows: int, lost: int, size: int) -> None:
        """Go on where another process that had the file has stopped: rows that it wrote and lost, and the size."""
        self.rows, self.lost, self.size = rows, lost, size
        self._cut_off()

    def end(self) -> None:
        """Append the row that says that nothing follows, and close."""
        try:
            _write_all(self.descriptor, f"{END}\n".encode())
        except OSError as error:
            self._tell(f"{self.path}: {reason(error)}: it has no row {END}")
            self._cut_off()
        finally:
            os.close(self.descriptor)


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
    os.close(_open(path, data))


def _open(path: Path, data: bytes) -> int:
    """A descriptor of a file that begins with ``data``."""
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
        return fd
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _write_all(fd, data)
        os.replace(unfinished, path)
    except OSError:
        os.close(fd)
        os.unlink(unfinished)
        raise
    return fd


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def reason(error: OSError) -> str:
    """Return why something failed, for the middle of a sentence."""
    return (error.strerror or str(error)).lower()
