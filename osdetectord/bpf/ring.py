"""The kernel's ring buffer, mapped and read as an array of fixed-size records.

Format: Documentation/bpf/ringbuf.rst; each record has a header of 8 bytes: length with two flag bits, page.
"""

from __future__ import annotations

import mmap
import struct
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

    def read(self) -> NDArray[Any]:
        """Take what is there, oldest first."""
        consumed = struct.unpack_from("<Q", self._consumer)[0]
        produced = struct.unpack_from("<Q", self._data)[0]
        size = self._record.itemsize
        count = (produced - consumed) // size
        view = np.frombuffer(
            self._data, self._record, count, offset=mmap.PAGESIZE + (consumed & (self._size - 1))
        ).copy()
        # a record under way has the busy bit in its length: it and all after it wait for the next time
        busy = np.flatnonzero(view["length"] != size - HEADER)
        if len(busy):
            view = view[: busy[0]]
        struct.pack_into("<Q", self._consumer, 0, consumed + len(view) * size)
        return view["record"]

    def close(self) -> None:
        self._consumer.close()
        self._data.close()
