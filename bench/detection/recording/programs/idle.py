"""A program that hardly does anything."""

from __future__ import annotations

from collections.abc import Sequence

from bench.detection.recording.program import LONG_AFTERMATH_S, Fault, Job, Program


class Idle(Program):
    """Looks around every five seconds and logs every fifteen."""

    async def start(self) -> int:
        self._pid = self.python("idle").pid
        return self._pid

    def faults(self) -> Sequence[Fault]:
        return [
            self.hang(self._pid),
            self.vice("busy_loop", "hog", 60),
            self.vice("memory_leak", "leak", 1500, LONG_AFTERMATH_S),
            self.vice("descriptor_leak", "fd", 10, LONG_AFTERMATH_S),
            self.vice("call_storm", "storm", 3000),
            self.vice("error_storm", "err", 50),
        ]

    def jobs(self) -> Sequence[Job]:
        return [Job("survey", lambda: self.tell("survey", 1))]
