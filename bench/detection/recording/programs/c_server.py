"""A multi-threaded server in C, asked over UDP."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence

from bench.detection.recording.program import LONG_AFTERMATH_S, VICTIMS, Fault, Job, Program, free_port


class CServer(Program):
    """Datagrams that are worked on, logged and answered."""

    async def start(self) -> int:
        port, binary = free_port(), self.room / "server"
        subprocess.run(["cc", "-O2", "-pthread", "-o", binary, VICTIMS / "server.c", "-lm"], check=True)
        server = self.run(binary, str(port), self.room / "control")
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.connect(("127.0.0.1", port))
        for number in range(2):
            self.begin(f"client {number}", lambda: self.load.drive(12.0, self._ask))
        self._pid = server.pid
        return server.pid

    async def _ask(self) -> None:
        self._socket.send(b"%d" % self.random.randrange(20000, 40000))

    def faults(self) -> Sequence[Fault]:
        return [
            self.hang(self._pid),
            *self.traffic(),
            self.vice("busy_loop", "loop", 1),
            self.vice("call_storm", "storm", 20000),
            self.vice("call_storm_small", "storm", 600),
            self.vice("lock_contention", "lock", 60),
            self.vice("memory_leak", "leak", 3000, LONG_AFTERMATH_S),
            self.vice("slow_leak", "leak", 150, LONG_AFTERMATH_S),
            self.vice("descriptor_leak", "fd", 10, LONG_AFTERMATH_S),
            self.vice("thread_leak", "thread", 10, LONG_AFTERMATH_S),
            self.vice("fork_storm", "fork", 60),
            self.vice("page_churn", "fault", 10),
            self.vice("slow_function", "slow", 15),
            self.vice("costly_function", "cost", 6),
            self.vice("disk_writes", "write", 40),
        ]

    def jobs(self) -> Sequence[Job]:
        return [*super().jobs(), Job("log_rotation", lambda: self.tell("truncate", 1))]
