"""Following processes by looking at /proc at each tick, where the kernel can't be asked to tell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from time import CLOCK_MONOTONIC, clock_gettime_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord import proc
from osdetectord.collectors import layout
from osdetectord.collectors.registry import COLLECTORS, without_kernel
from osdetectord.core import HookView
from osdetectord.errors import NoSuchProcess
from osdetectord.hooks import hook_views
from osdetectord.process import Process
from osdetectord.trouble import Troubles

UNKNOWN_CODE = 0xFFFFFFFF
"""Exit status of a process whose end only its absence tells."""


@dataclass(slots=True)
class _Row:
    process: Process
    parent: int
    parent_pid: int
    flags: int
    comm: str
    uid: int
    gone: bool = False

    def record(self) -> Any:
        """As the kernel would keep it."""
        out = np.zeros(1, dtype=layout.PROCESS)
        out["start_ns"] = self.process.start_ticks * proc.START_TICK_NS
        out["parent"] = self.parent
        out["flags"] = self.flags | (layout.EXITED if self.gone else 0)
        out["threads"] = 0 if self.gone else 1
        out["exit_code"] = UNKNOWN_CODE
        out["pid"] = self.process.pid
        out["parent_pid"] = self.parent_pid
        out["uid"] = self.uid
        out["comm"] = os.fsencode(self.comm)
        return out[0]


class PolledTables:
    """The one table that polling fills; see :class:`osdetectord.collector.Tables`."""

    def __init__(self, serials: NDArray[np.uint64], processes: NDArray[Any]) -> None:
        self.now_ns = clock_gettime_ns(CLOCK_MONOTONIC)
        self._processes = (serials, processes)

    def read(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        if name == "processes":
            return self._processes
        table = layout.TABLES[name]
        return np.zeros(0, dtype=table.key), np.zeros(0, dtype=table.value)

    def batches(self, name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        yield self.read(name)


class Polling:
    """Stands in for :class:`osdetectord.bpf.kernel.Kernel`; a child that lives shorter than a tick is missed.

    Parameters
    ----------
    why
        Why the kernel does not serve.
    """

    def __init__(self, why: str) -> None:
        self._rows: dict[int, _Row] = {}
        self._lost: dict[str, int] = dict.fromkeys(layout.LOST, 0)
        self._unseen = Troubles("%s can't be looked at", "%s is looked at again")
        self.ranks: Mapping[str, tuple[int, str]] = {
            collector.name: (without_kernel(collector), why) for collector in COLLECTORS
        }

    def watch(self, pid: int, follow: bool) -> int | None:
        """Watch a process; its children are found at the next tick."""
        return self._add(pid, layout.FOLLOW if follow else 0, 0, 0)

    def _add(self, pid: int, flags: int, parent: int, parent_pid: int) -> int | None:
        try:
            stat = proc.stat_of(pid)
        except NoSuchProcess:
            return None
        serial = stat.start_ticks << 22 | pid
        if serial not in self._rows:
            try:
                uid = proc.uid_of(pid)
            except NoSuchProcess:
                return None
            self._rows[serial] = _Row(Process(pid, stat.start_ticks), parent, parent_pid, flags, stat.comm, uid)
        self._rows[serial].flags |= flags
        return serial

    def process(self, serial: int) -> Any:
        """What is known of a process, a record of ``layout.PROCESS``, or None."""
        row = self._rows.get(serial)
        return None if row is None else row.record()

    def waits(self, serial: int) -> tuple[int, ...]:
        """/proc keeps no histogram."""
        return ()

    def block(self, serial: int) -> Any:
        """/proc tells nothing of requests."""
        return None

    def hook_views(self) -> tuple[HookView, ...]:
        return hook_views(COLLECTORS, self.ranks)

    def snapshot(self) -> PolledTables:
        queue = list(self._rows)
        # children of children are found in the same pass; each process is visited once
        for serial in queue:
            row = self._rows[serial]
            with self._unseen.apart(f"process {row.process.pid} ({row.comm})"):
                queue += self._look(serial, row)
        table = np.zeros(len(self._rows), dtype=layout.PROCESS)
        for index, row in enumerate(self._rows.values()):
            table[index] = row.record()
        return PolledTables(np.array(list(self._rows), dtype=np.uint64), table)

    def _look(self, serial: int, row: _Row) -> list[int]:
        """Note what became of a process; returns its new children."""
        try:
            stat = proc.stat_of(row.process.pid)
        except NoSuchProcess:
            row.gone = True
            return []
        if stat.start_ticks != row.process.start_ticks or (stat.state in "ZX" and stat.threads <= 1):
            row.gone = True
            return []
        row.comm = stat.comm
        children = []
        if row.flags & layout.FOLLOW:
            for child in proc.children(row.process.pid):
                known = len(self._rows)
                found = self._add(child, row.flags, serial, row.process.pid)
                if found is not None and len(self._rows) > known:
                    children.append(found)
        return children

    def forget(self, serials: NDArray[np.uint64], threads: bool) -> None:
        for serial in serials:
            self._rows.pop(int(serial), None)

    def sweep(self, serials: NDArray[np.uint64]) -> None:
        """There is nothing to sweep."""

    def report_strangers(self, on: bool) -> None:
        """Strangers are not seen by polling."""

    def events(self) -> NDArray[Any]:
        return np.zeros(0, dtype=layout.EVENT)

    def lost(self) -> dict[str, int]:
        return self._lost

    def run_time_ns(self) -> int | None:
        return None

    def missed_runs(self) -> int:
        return 0

    def close(self) -> None:
        self._rows.clear()
