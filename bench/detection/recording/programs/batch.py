"""A program that works every ten seconds and writes a report every minute."""

from __future__ import annotations

from collections.abc import Sequence

from bench.detection.recording.program import LONG_AFTERMATH_S, Fault, Job, Program


class Batch(Program):
    """Quiet most of the time."""

    async def start(self) -> int:
        self._pid = self.python("batch").pid
        return self._pid

    def faults(self) -> Sequence[Fault]:
        return [
            self.hang(self._pid),
            self.vice("busy_loop", "hog", 60),
            self.vice("memory_leak", "leak", 1500, LONG_AFTERMATH_S),
            self.vice("descriptor_leak", "fd", 10, LONG_AFTERMATH_S),
            self.vice("call_storm", "storm", 3000),
            self.vice("error_storm", "err", 50),
            self.vice("disk_writes", "io", 8),
            self.vice("costly_function", "cost", 20),
        ]

    def jobs(self) -> Sequence[Job]:
        return [Job("load_step", lambda: self.tell("usual", self.random.uniform(0.7, 1.4)))]
