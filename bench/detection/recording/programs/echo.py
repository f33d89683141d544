"""A server in Python's asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.detection.recording.load import Client
from bench.detection.recording.program import LONG_AFTERMATH_S, Fault, Program, answered, free_port


class Echo(Program):
    """Lines that are hashed and answered at some length."""

    async def start(self) -> int:
        self._port = free_port()
        server = self.python("echo", str(self._port))
        await answered(self._port)
        for number in range(2):
            client = Client(self._port)
            self.begin(f"client {number}", lambda client=client: self.load.drive(10.0, lambda: self._ask(client)))
        self._pid = server.pid
        return server.pid

    async def _ask(self, client: Client) -> None:
        await client.ask(b"x" * self.random.randrange(10, 500) + b"\n", asyncio.StreamReader.readline)

    def faults(self) -> Sequence[Fault]:
        return [
            self.hang(self._pid),
            *self.traffic(),
            self.connections(self._port, 60),
            self.vice("busy_loop", "hog", 60),
            self.vice("memory_leak", "leak", 1500, LONG_AFTERMATH_S),
            self.vice("descriptor_leak", "fd", 10, LONG_AFTERMATH_S),
            self.vice("call_storm", "storm", 3000),
            self.vice("error_storm", "err", 50),
            self.vice("disk_writes", "io", 8),
            self.vice("slow_function", "slow", 60),
            self.vice("costly_function", "cost", 20),
        ]
