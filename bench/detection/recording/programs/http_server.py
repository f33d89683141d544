"""A threaded HTTP server in Python."""

from __future__ import annotations

from collections.abc import Sequence

from bench.detection.recording.load import Client, http_answer, http_request
from bench.detection.recording.program import LONG_AFTERMATH_S, Fault, Program, answered, free_port


class HttpServer(Program):
    """Two clients that ask for a little computed page."""

    async def start(self) -> int:
        self._port = free_port()
        server = self.python("http_server", str(self._port))
        await answered(self._port)
        for number in range(2):
            client = Client(self._port)
            self.begin(f"client {number}", lambda client=client: self.load.drive(6.0, lambda: self._ask(client)))
        self._pid = server.pid
        return server.pid

    async def _ask(self, client: Client) -> None:
        await client.ask(http_request(f"/{self.random.random()}"), http_answer)

    def faults(self) -> Sequence[Fault]:
        return [
            self.hang(self._pid),
            *self.traffic(),
            self.connections(self._port, 60),
            self.vice("busy_loop", "hog", 80),
            self.vice("busy_loop_small", "hog", 15),
            self.vice("memory_leak", "leak", 2000, LONG_AFTERMATH_S),
            self.vice("slow_leak", "leak", 150, LONG_AFTERMATH_S),
            self.vice("descriptor_leak", "fd", 10, LONG_AFTERMATH_S),
            self.vice("lock_contention", "lock", 80),
            self.vice("fork_storm", "fork", 30),
            self.vice("slow_function", "slow", 60),
            self.vice("costly_function", "cost", 20),
            self.vice("error_storm", "err", 60),
        ]
