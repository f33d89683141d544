"""Every system call as two rows, written while it happens by a thread of its own."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.sampler import Sampler
from osdetectord.snoop.digits import Spelled, Texts, joined
from osdetectord.snoop.table import CsvFile, text_of

PAUSE_S = 0.02
MOST_ROWS = 65536
"""Rows that are formatted at once."""

_THREE_DIGITS = Spelled(b"%03d".__mod__, 0, 1000)
_CALL = Spelled(lambda code: b"%d,%d," % (code & 1, code >> 1), 0, 2048)
"""Action and number of a system call, from twice the number and one if it leaves."""
_RESULT = Spelled(b"%d\n".__mod__, -4096, 16384)
_ARGUMENT = Spelled(lambda value: b"%d\n" % (value & (1 << 64) - 1), 0, 16384)


class SyscallLog:
    """Writes the log of a sampler to a file until it is told to stop.

    Parameters
    ----------
    sampler
        Whose log; it is switched on here, raises Unsupported where it can't be.
    file
        Where the rows go.
    threads
        Whether the second column has the thread's id instead of the process's.
    """

    def __init__(self, sampler: Sampler, file: CsvFile, threads: bool) -> None:
        self._sampler, self._file = sampler, file
        self._column = "tid" if threads else "pid"
        self._names: dict[bytes, bytes] = {}
        self._enough = threading.Event()
        self._lost_before = sampler.lost()["logged"]
        sampler.log_syscalls(True)
        self._thread = threading.Thread(target=self._run, name="syscall-log")
        self._thread.start()

    @property
    def lost(self) -> int:
        """Rows that the ring had no room for."""
        return self._sampler.lost()["logged"] - self._lost_before

    def stop(self) -> None:
        """Write what is there and end."""
        self._sampler.log_syscalls(False)
        self._enough.set()
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last:
            # what came before the word to stop is written too
            last = self._enough.wait(PAUSE_S)
            records = self._sampler.logged_syscalls()
            for start in range(0, len(records), MOST_ROWS):
                part = records[start : start + MOST_ROWS]
                self._file.write(self.formatted(part), len(part))

    def formatted(self, records: NDArray[Any]) -> bytes:
        """Rows TIME, PID, COMM, ACTION, SYSCALL_ID, PARM1 of records."""
        wall_us = (time.time_ns() - time.monotonic_ns()) // 1000
        seconds, micros = np.divmod(records["time_ns"].astype(np.int64) // 1000 + wall_us, 1_000_000)
        leaves = records["leave"] != 0
        values = records["value"].astype(np.int64)
        return joined(
            (
                Spelled(b"%d.".__mod__, int(seconds[0]), int(seconds[0]) + 1).of(seconds),
                _THREE_DIGITS.of(micros // 1000),
                _THREE_DIGITS.of(micros % 1000),
                self._whose(records[self._column], records["comm"]),
                _CALL.of(records["number"].astype(np.int64) * 2 + leaves),
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
