"""Rows of system calls, spelled and written by a process of its own, which yields to all others.

Run as ``python3 -m osdetectord.snoop.rows READER SIZES PROGRESS FILE COLUMN PATH``: descriptors of a spool, of where
the :data:`PROGRESS` so far is to stand, and of the file; whose ids stand in the second column (``pid`` or ``tid``);
and the file's name.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.collectors.syscall_log import Logged, Rows
from osdetectord.snoop.digits import Spelled, Texts, joined
from osdetectord.snoop.say import tell
from osdetectord.snoop.spool import taken
from osdetectord.snoop.table import Appended, text_of

PROGRESS = struct.Struct("<QQQ")
"""Rows written and lost, and where the file ends."""

MOST_ROWS = 65536
"""Rows that are spelled at once."""

_THREE_DIGITS = Spelled(b"%03d".__mod__, 0, 1000)
_CALL = Spelled(lambda code: b"%d,%d," % (code & 1, code >> 1), 0, 2048)
"""Action and number of a system call, from twice the number and one if it leaves."""
_RESULT = Spelled(b"%d\n".__mod__, -4096, 16384)
_ARGUMENT = Spelled(lambda value: b"%d\n" % (value & (1 << 64) - 1), 0, 16384)


class Speller:
    """Makes text of rows.

    Parameters
    ----------
    column
        What stands in the second column: ``pid`` or ``tid``.
    """

    def __init__(self, column: str) -> None:
        self._column = column
        self._names: dict[bytes, bytes] = {}

    def text(self, rows: NDArray[Any], wall_ns: int) -> bytes:
        """Lines TIME, PID, COMM, ACTION, SYSCALL_ID, PARM1 of rows of the log.

        ``wall_ns`` makes a time of the wall clock of theirs.
        """
        seconds, micros = np.divmod((rows["time_ns"].astype(np.int64) + wall_ns) // 1000, 1_000_000)
        leaves = rows["leave"] != 0
        values = rows["value"].astype(np.int64)
        return joined(
            (
                Spelled(b"%d.".__mod__, int(seconds[0]), int(seconds[-1]) + 1).of(seconds),
                _THREE_DIGITS.of(micros // 1000),
                _THREE_DIGITS.of(micros % 1000),
                self._whose(rows[self._column], rows["comm"]),
                _CALL.of(rows["number"].astype(np.int64) * 2 + leaves),
                # results are signed, the first argument is what its register holds
                np.where(leaves, _RESULT.of(np.where(leaves, values, 0)), _ARGUMENT.of(np.where(leaves, 0, values))),
            )
        )

    def _whose(self, numbers: NDArray[Any], names: NDArray[Any]) -> Texts:
        """Return the columns of id and name; rows of one thread mostly follow each other."""
        halves = np.ascontiguousarray(names).view(np.uint64).reshape(-1, 2)
        other = (numbers[1:] != numbers[:-1]) | (halves[1:] != halves[:-1]).any(axis=1)
        starts = np.concatenate(([0], np.flatnonzero(other) + 1))
        pairs = zip(numbers[starts].tolist(), names[starts].tolist(), strict=True)
        texts = np.array([b",%d,%s," % (number, self._name(name)) for number, name in pairs])
        return texts.repeat(np.diff(starts, append=len(numbers)))

    def _name(self, name: bytes) -> bytes:
        text = self._names.get(name)
        if text is None:
            text = text_of([[name.decode("utf-8", "surrogateescape")]]).rstrip(b"\n")
            self._names[name] = text
        return text


def main(arguments: Sequence[str]) -> int:
    """Write until nothing follows."""
    reader, sizes, progress, fd = map(int, arguments[:4])
    column, path = arguments[4:]
    file, rows, speller = Appended(Path(path), fd, tell), Rows(), Speller(column)
    wall_ns = 0

    def write(some: NDArray[Any]) -> None:
        for start in range(0, len(some), MOST_ROWS):
            part = some[start : start + MOST_ROWS]
            file.write(speller.text(part, wall_ns), len(part))
        os.pwrite(progress, PROGRESS.pack(file.rows, file.lost + rows.nameless, file.size), 0)

    for data in taken(reader, sizes):
        logged = Logged.unpacked(data)
        wall_ns = logged.wall_ns
        write(rows.of(logged))
    write(rows.rest())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
