"""nginx: the worker, serving files."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from bench.detection.recording.load import Client, http_answer, http_request
from bench.detection.recording.program import Fault, Job, Program, answered, free_port

FILES = 50
CONFIGURATION = """
worker_processes 1; daemon off; pid {room}/pid; user root; error_log {room}/error.log;
events {{ worker_connections 2000; }}
http {{ access_log {room}/access.log; keepalive_requests 1000000;
  server {{ listen 127.0.0.1:{port}; root {room}/files; }} }}
"""


class Nginx(Program):
    """Three clients, small files oftener than big ones."""

    async def start(self) -> int:
        self._port = free_port()
        (self.room / "files").mkdir()
        for number in range(FILES):
            (self.room / "files" / str(number)).write_bytes(self.random.randbytes(500 + 400 * number))
        (self.room / "nginx.conf").write_text(CONFIGURATION.format(room=self.room, port=self._port))
        self._master = self.run("nginx", "-c", self.room / "nginx.conf", "-p", self.room)
        await answered(self._port)
        for number in range(3):
            client = Client(self._port)
            self.begin(f"client {number}", lambda client=client: self.load.drive(7.0, lambda: self._ask(client)))
        children = Path(f"/proc/{self._master.pid}/task/{self._master.pid}/children")
        self._pid = int(children.read_text().split()[0])
        return self._pid

    async def _ask(self, client: Client) -> None:
        number = min(FILES - 1, int(self.random.expovariate(0.08)))
        await client.ask(http_request(f"/{number}"), http_answer)

    async def _missing(self) -> None:
        client = Client(self._port)
        while True:
            await client.ask(http_request("/missing"), http_answer)
            await asyncio.sleep(0.02)

    async def _backup(self) -> None:
        client = Client(self._port)
        for number in range(FILES):
            await client.ask(http_request(f"/{number}"), http_answer)
            await asyncio.sleep(0.02)

    def _rotate(self) -> None:
        (self.room / "access.log").rename(self.room / "access.log.1")
        os.kill(self._master.pid, signal.SIGUSR1)

    def faults(self) -> Sequence[Fault]:
        flood = f'while :; do curl -s -o /dev/null "http://127.0.0.1:{self._port}/[0-49]"; done'
        return [
            self.hang(self._pid),
            *self.traffic(),
            self.connections(self._port, 150),
            Fault("error_storm", lambda: self.begin("missing", self._missing), lambda: self.cease("missing")),
            self.helper("flood", "bash", "-c", flood, noisy=True),
        ]

    def jobs(self) -> Sequence[Job]:
        return [
            *super().jobs(),
            Job("log_rotation", self._rotate),
            Job("backup", lambda: self.begin("backup", self._backup)),
        ]
