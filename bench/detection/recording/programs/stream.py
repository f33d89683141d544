"""A program that compresses a stream into a file."""

from __future__ import annotations

from collections.abc import Sequence

from bench.detection.recording.program import LONG_AFTERMATH_S, Fault, Job, Program


class Stream(Program):
    """Producer and consumer in one process."""

    async def start(self) -> int:
        self._pid = self.python("stream").pid
        return self._pid

    def faults(self) -> Sequence[Fault]:
        return [
            self.hang(self._pid),
            self.rate("traffic_drop", 0.0),
            self.rate("traffic_half", 0.35),
            self.vice("busy_loop", "hog", 50),
            self.vice("memory_leak", "leak", 1500, LONG_AFTERMATH_S),
            self.vice("descriptor_leak", "fd", 10, LONG_AFTERMATH_S),
            self.vice("call_storm", "storm", 3000),
            self.vice("slow_function", "slow", 25),
            self.vice("costly_function", "cost", 20),
            self.vice("disk_writes", "io", 8),
        ]

    def jobs(self) -> Sequence[Job]:
        return [Job("load_step", lambda: self.tell("usual", self.random.uniform(0.7, 1.4)))]
