"""The kernel's ring buffer, mapped and read as an array of fixed-size records.

Format: Documentation/bpf/ringbuf.rst; each record has a header of 8 bytes: length with two flag bits, page.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

HEADER = 8


class Ring:
    """Reader of a ring whose records are all of one layout.

    Parameters
    ----------
    fd
        The map's descriptor; stays the caller's.
    size
        Bytes, a power of two.
    record
        Layout of a record; a multiple of 8 bytes.
    """

    def __init__(self, fd: int, size: int, record: DTypeLike) -> None:
        self._record = np.dtype([("length", "<u4"), ("page", "<u4"), ("record", record)])
        page = mmap.PAGESIZE
        self._consumer = mmap.mmap(fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # the data pages are mapped twice in a row, so that no record is ever in two pieces
        self._data = mmap.mmap(fd, page + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        self._size = size
        # The kernel reads and writes positions while we do.  A cast view moves eight bytes at once; struct's
        # standard sizes move one after another, and a position half written is one that never was.
        self._consumed = memoryview(self._consumer)[:8].cast("Q")
        self._produced = memoryview(self._data)[:8].cast("Q")

    def read(self) -> NDArray[Any]:
        """Take what is there, oldest first."""
        consumed = self._consumed[0]
        produced = self._produced[0]
        size = self._record.itemsize
        count = (produced - consumed) // size
        view = np.frombuffer(self._data, self._record, count, offset=mmap.PAGESIZE + (consumed & (self._size - 1)))
        # A record under way has the busy bit in its length: it and all after it wait for the next time.  Lengths
        # are looked at before anything is copied, as a record is whole once its length is.
        busy = np.flatnonzero(view["length"] != size - HEADER)
        taken = view[: busy[0] if len(busy) else count].copy()
        self._consumed[0] = consumed + len(taken) * size
        return taken["record"]

    def close(self) -> None:
        self._consumed.release()
        self._produced.release()
        self._consumer.close()
        self._data.close()
