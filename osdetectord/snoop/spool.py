"""What waits for another process: in order, in a file without a name, of any amount that the disk has room for."""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress

_SIZE = struct.Struct("<Q")


class Spool:
    """The end where things are put; :func:`taken` is the other process's.

    The file begins anew each time that everything has been taken, which the position shows that both ends share.

    Attributes
    ----------
    reader, sizes
        Descriptors for the other process.
    """

    def __init__(self) -> None:
        self._fd, path = tempfile.mkstemp(prefix="osdetectord-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        try:
            self.reader = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.unlink(path)
        self.sizes, self._told = os.pipe()
        os.set_blocking(self._told, False)
        self._untold = b""
        self._end = 0

    @property
    def waiting(self) -> int:
        """Bytes that have not been taken."""
        return self._end - os.lseek(self.reader, 0, os.SEEK_CUR)

    def put(self, pieces: Sequence[bytes]) -> None:
        """Append one thing; raises OSError, and then nothing of it is there."""
        if not self.waiting:
            os.ftruncate(self._fd, 0)
            for fd in (self.reader, self._fd):
                os.lseek(fd, 0, os.SEEK_SET)
            self._end = 0
        try:
            for piece in pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._fd, view) :]
        except OSError:
            os.ftruncate(self._fd, self._end)
            os.lseek(self._fd, self._end, os.SEEK_SET)
            raise
        size = sum(map(len, pieces))
        self._end += size
        self._untold += _SIZE.pack(size)
        # where there is no room, it is told with the next
        with suppress(BlockingIOError):
            self._untold = self._untold[os.write(self._told, self._untold) :]

    def end(self) -> None:
        """Say that nothing follows."""
        os.close(self.sizes)
        os.set_blocking(self._told, True)
        # nobody may be left to take it
        with suppress(BrokenPipeError):
            os.write(self._told, self._untold)
        os.close(self._told)
        os.close(self._fd)

    def close(self) -> None:
        """Let go of what has not been taken."""
        os.close(self.reader)


def taken(reader: int, sizes: int) -> Iterator[bytes]:
    """Yield one thing after another, as they come, until nothing follows."""
    told = b""
    while more := os.read(sizes, 4096):
        told += more
        whole = len(told) - len(told) % _SIZE.size
        for (size,) in _SIZE.iter_unpack(told[:whole]):
            yield _read(reader, size)
        told = told[whole:]


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data
