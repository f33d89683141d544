"""Every system call as two rows: read while it happens, written when nobody else needs the processor.

Spelling the calls of a busy server takes a good part of a processor, which would be taken from the server.  So the
thread that reads the log only moves it to a spool, and a process of its own makes rows of it, at the lowest priority
until the end.  Where the spool grows too large meanwhile, that process gets a share like everybody's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from osdetectord.collectors.syscall_log import NAME, Logged
from osdetectord.sampler import Sampler
from osdetectord.snoop.rows import PROGRESS
from osdetectord.snoop.spool import Spool
from osdetectord.snoop.table import CannotWrite, CsvFile, Tell, reason

PAUSE_S = 0.5
MOST_WAITING = 1 << 30
"""Bytes of the spool from which on rows are written at the cost of others, until half of it is left."""
PATIENCE_S = 1.0
"""What takes longer at the end is said."""


class SyscallLog:
    """Writes the log of a sampler to a file until it is told to stop.

    Parameters
    ----------
    sampler
        Whose log; it is switched on here.
    file
        Where the rows go.
    threads
        Whether the second column has the thread's id instead of the process's.
    tell
        Takes a line for people.

    Raises
    ------
    CannotWrite
        If there is no place for what waits to be written.
    Unsupported
        If there can be no log.
    """

    def __init__(self, sampler: Sampler, file: CsvFile, threads: bool, tell: Tell) -> None:
        self._sampler, self._file, self._tell = sampler, file, tell
        self._given = self._lost = 0
        self._names = np.zeros(0, NAME)
        self._said: set[str] = set()
        self._hurries = False
        try:
            self._spool = Spool()
        except OSError as error:
            raise CannotWrite(f"{error.filename}: can't be written: {reason(error)}") from None
        self._progress = os.memfd_create("progress")
        os.pwrite(self._progress, PROGRESS.pack(file.rows, file.lost, file.size), 0)
        sampler.log_syscalls(True)
        self._writer = self._started("tid" if threads else "pid")
        self._yield(True)
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._run, name="syscall-log")
        self._thread.start()

    def _started(self, column: str) -> subprocess.Popen[bytes]:
        shared = (self._spool.reader, self._spool.sizes, self._progress, self._file.descriptor)
        package = str(Path(__file__).resolve().parents[2])
        return subprocess.Popen(
            [sys.executable, "-m", "osdetectord.snoop.rows", *map(str, shared), column, self._file.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=shared,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))},
            # Ctrl-C is not for it
            start_new_session=True,
        )

    def _yield(self, yields: bool) -> None:
        """Let the writer run only when nobody else would, or like everybody."""
        # what may not be raised again is just slower
        with suppress(OSError):
            os.sched_setscheduler(self._writer.pid, os.SCHED_IDLE if yields else os.SCHED_OTHER, os.sched_param(0))
        # where each session has a share of its own (sched(7), autogroup), it is the share that yields
        with suppress(OSError):
            Path(f"/proc/{self._writer.pid}/autogroup").write_text("19" if yields else "0")

    def _run(self) -> None:
        last = False
        while not last:
            # what came before the word to stop is written too
            last = self._enough.wait(PAUSE_S)
            self._pass_on(self._sampler.logged_syscalls())

    def _pass_on(self, logged: Logged) -> None:
        if self._writer.poll() is not None:
            self._lose(logged, self._end_of_writer())
            return
        try:
            self._spool.put(replace(logged, names=np.concatenate((self._names, logged.names))).packed())
        except OSError as error:
            self._lose(logged, f"no room for what is to be written: {reason(error)}")
        else:
            self._given += logged.rows
            self._names = self._names[:0]
        enough = MOST_WAITING // 2 if self._hurries else MOST_WAITING
        if self._hurries != (self._spool.waiting > enough):
            self._hurries = not self._hurries
            self._yield(not self._hurries)

    def _end_of_writer(self) -> str:
        return f"what writes it has ended with status {self._writer.returncode}"

    def _lose(self, logged: Logged, why: str) -> None:
        # threads are told of once: later rows need their names
        self._names = np.concatenate((self._names, logged.names))
        self._lost += logged.rows
        self._say(why)

    def _say(self, why: str) -> None:
        if why not in self._said:
            self._said.add(why)
            self._tell(f"{self._file.path}: {why}: rows are lost")

    def stop(self) -> None:
        """Write what is there and end."""
        self._enough.set()
        self._thread.join()
        self._sampler.log_syscalls(False)
        if self._writer.poll() is None:
            self._yield(False)
        self._spool.end()
        try:
            self._writer.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._tell(f"{self._file.path}: writing the last {self._spool.waiting >> 20} MiB of records")
            self._writer.wait()
        rows, lost, size = PROGRESS.unpack(os.pread(self._progress, PROGRESS.size, 0))
        if self._writer.returncode:
            self._say(self._end_of_writer())
            lost = max(lost, self._given - rows)
        self._file.take_back(rows, lost + self._lost, size)
        os.close(self._progress)
        self._spool.close()
