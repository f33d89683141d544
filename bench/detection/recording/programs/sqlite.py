"""A program that keeps its records in SQLite."""

from __future__ import annotations

from collections.abc import Sequence

from bench.detection.recording.program import LONG_AFTERMATH_S, Fault, Job, Program

HOLD = """
import sqlite3, sys, time
records = sqlite3.connect(sys.argv[1], timeout=60)
records.execute('begin immediate')
time.sleep(1000)
"""


class Sqlite(Program):
    """Inserts and selects at a rate of its own; house-keeping every few minutes."""

    async def start(self) -> int:
        self._pid = self.python("sqlite_loop").pid
        return self._pid

    def faults(self) -> Sequence[Fault]:
        return [
            self.hang(self._pid),
            self.rate("traffic_drop", 0.0),
            self.rate("traffic_half", 0.35),
            self.helper("lock_held", "/usr/bin/python3", "-c", HOLD, self.room / "records"),
            self.vice("slow_queries", "scan", 0.5),
            self.vice("checkpoint_storm", "checkpoint", 1),
            self.vice("memory_leak", "leak", 2000, LONG_AFTERMATH_S),
            self.vice("slow_leak", "leak", 150, LONG_AFTERMATH_S),
            self.vice("busy_loop", "hog", 40),
        ]

    def jobs(self) -> Sequence[Job]:
        def step() -> None:
            self.tell("usual", self.random.uniform(0.7, 1.4))

        return [Job("load_step", step), Job("vacuum", lambda: self.tell("vacuum", 1))]
