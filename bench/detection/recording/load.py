"""Load: requests at a rate that swings like a day, wanders, and can be changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import pi, sin
from random import Random

SWING, WANDER, MEMORY = 0.4, 0.02, 0.98
RETRY_S = 0.3
RUSH, RUSH_S = 3.0, 30.0


class Load:
    """A rate: a slow sine, a walk that returns, and a factor that steps and faults change."""

    def __init__(self, random: Random) -> None:
        self._random = Random(random.randrange(10**9))
        self._period_s, self._phase = self._random.uniform(240, 600), self._random.random()
        self._walk, self._usual, self._rush, self._factor = 0.0, 1.0, 1.0, 1.0

    def step(self) -> None:
        """Change for good, within what is ordinary."""
        self._usual = self._random.uniform(0.7, 1.4)

    def scale(self, factor: float) -> None:
        """Multiply, until it is 1 again."""
        self._factor = factor

    async def rush(self) -> None:
        """Have thrice the clients for a while; none of them asks for anything new."""
        self._rush = RUSH
        await asyncio.sleep(RUSH_S)
        self._rush = 1.0

    def rate(self) -> float:
        """Return how many times the usual rate it is now."""
        self._walk = MEMORY * self._walk + self._random.gauss(0.0, WANDER)
        swing = SWING * sin(2 * pi * (time.monotonic() / self._period_s + self._phase))
        return self._factor * self._rush * self._usual * max(0.05, 1.0 + swing + self._walk)

    async def drive(self, per_s: float, ask: Callable[[], Awaitable[None]]) -> None:
        """Call ``ask`` about ``per_s`` times a second, one at a time, for ever."""
        while True:
            rate = per_s * self.rate()
            if rate <= 0.0:
                await asyncio.sleep(0.2)
                continue
            try:
                await ask()
            except (OSError, EOFError, ValueError):
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(self._random.expovariate(rate))


class Client:
    """A connection that is made anew when it breaks."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes, answer: Callable[[asyncio.StreamReader], Awaitable[object]]) -> None:
        """Send a request and read its answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            writer.write(request)
            await answer(reader)
        except (OSError, EOFError, ValueError):
            writer.close()
            self._streams = None
            raise


async def http_answer(reader: asyncio.StreamReader) -> None:
    """Read one answer of HTTP/1.1 that tells its length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))


def http_request(path: str) -> bytes:
    """Return a request for a path."""
    return f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode()
