"""Every system call as two rows, written while it happens by a thread of its own."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.sampler import Sampler
from osdetectord.snoop.table import CsvFile, text_of

PAUSE_S = 0.02
MOST_ROWS = 65536
"""Rows that are formatted at once."""


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
        self._names: dict[bytes, str] = {}
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
        seconds, part = np.divmod(records["time_ns"].astype(np.int64) // 1000 + wall_us, 1_000_000)
        leaves = records["leave"]
        # results are signed, the first argument is what its register holds
        signed = records["value"].astype(np.int64)
        values = signed.tolist()
        for index in np.flatnonzero((signed < 0) & (leaves == 0)).tolist():
            values[index] += 1 << 64
        names = [self._name(name) for name in records["comm"].tolist()]
        numbers = (seconds, part, records[self._column], leaves, records["number"])
        lists = [column.tolist() for column in numbers]
        return "".join(
            [
                f"{second}.{micro:06d},{who},{name},{leave},{number},{value}\n"
                for second, micro, who, leave, number, name, value in zip(*lists, names, values, strict=True)
            ]
        ).encode()

    def _name(self, name: bytes) -> str:
        text = self._names.get(name)
        if text is None:
            text = text_of([[name.decode("utf-8", "surrogateescape")]]).decode().rstrip("\n")
            self._names[name] = text
        return text
