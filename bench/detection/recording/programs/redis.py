"""redis-server, with expiring keys, lists and a big script."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bench.detection.recording.load import Client
from bench.detection.recording.program import LONG_AFTERMATH_S, Fault, Job, Program, answered, free_port

PER_S = 15.0
SCRIPT = '"local x=0 for i=1,2000000 do x=x+i end return x"'


async def _answer(reader: asyncio.StreamReader) -> None:
    line = await reader.readline()
    if not line:
        raise EOFError
    if line.startswith(b"$") and int(line[1:]) >= 0:
        await reader.readexactly(int(line[1:]) + 2)
    elif line.startswith(b"*"):
        for _ in range(int(line[1:])):
            await _answer(reader)


class Redis(Program):
    """Two clients that set, get and push."""

    async def start(self) -> int:
        self._port = free_port()
        server = self.run(
            *("redis-server", "--port", str(self._port), "--save", "", "--enable-debug-command", "yes"),
            *("--maxmemory", "600mb"),
        )
        await answered(self._port)
        self._other = Client(self._port)
        for number in range(2):
            client = Client(self._port)
            self.begin(f"client {number}", lambda client=client: self.load.drive(PER_S, lambda: self._ask(client)))
        self._pid = server.pid
        return server.pid

    async def _ask(self, client: Client) -> None:
        key, kind = self.random.randrange(20000), self.random.random()
        if kind < 0.4:
            words = f"SET k{key} {'x' * self.random.randrange(10, 500)} EX 120"
        elif kind < 0.9:
            words = f"GET k{key}"
        elif kind < 0.95:
            words = f"LPUSH l{key % 20} {key}"
        else:
            words = f"LTRIM l{key % 20} 0 99"
        await client.ask(f"{words}\r\n".encode(), _answer)

    def _say(self, words: str) -> None:
        self.begin("say", lambda: self._other.ask(f"{words}\r\n".encode(), _answer))

    def _again(self, name: str, words: str, every_s: float, aftermath_s: int = 15) -> Fault:
        async def repeat() -> None:
            client, number = Client(self._port), 0
            while True:
                number += 1
                await client.ask(f"{words.format(n=number)}\r\n".encode(), _answer)
                await asyncio.sleep(every_s)

        return Fault(name, lambda: self.begin(name, repeat), lambda: self.cease(name), aftermath_s)

    def faults(self) -> Sequence[Fault]:
        return [
            self.hang(self._pid),
            *self.traffic(),
            self.connections(self._port, 150),
            self._again("expensive_script", f"EVAL {SCRIPT} 0", 0.2),
            self._again("blocked", "DEBUG SLEEP 0.4", 0.3),
            self._again("memory_leak", "SET leak{n} " + "x" * 20000, 0.01, LONG_AFTERMATH_S),
            self._again("scan_of_all", "KEYS *", 0.1),
            self.helper("flood", "redis-benchmark", "-p", str(self._port), "-c", "10", "-n", "100000000", noisy=True),
        ]

    def jobs(self) -> Sequence[Job]:
        return [*super().jobs(), Job("snapshot", lambda: self._say("BGSAVE")), Job("survey", lambda: self._say("INFO"))]
