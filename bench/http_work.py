"""Work for a real web server: a steady load of many clients, and connections that pile up.

``http_work.py --port N load`` asks for ``/`` at a steady rate until it is stopped; a client closes its connection after
some requests and opens another.  ``hold`` opens connections, begins a request on each, and does not go on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys

CLIENTS = 16
REQUESTS_PER_CONNECTION = 10


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a request and read the whole answer."""
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = (line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    await reader.readexactly(int(length.split(b":")[1]))


async def client(host: str, port: int, rate_hz: float, seed: int) -> None:
    """Ask at random moments, ``rate_hz`` times a second on the average, for ever."""
    rng = random.Random(seed)
    while True:
        reader, writer = await asyncio.open_connection(host, port)
        for _ in range(rng.randint(1, 2 * REQUESTS_PER_CONNECTION)):
            await asyncio.sleep(rng.expovariate(rate_hz))
            await ask(reader, writer)
        writer.close()


async def load(host: str, port: int, rate_hz: float) -> None:
    """Ask with many clients, ``rate_hz`` times a second in all, until cancelled."""
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(client(host, port, rate_hz / CLIENTS, number))


async def hold(host: str, port: int, rate_hz: float) -> None:
    """Open ``rate_hz`` connections a second and keep all of them, until cancelled."""
    held = []
    while True:
        _, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\n")
        held.append(writer)
        await asyncio.sleep(1 / rate_hz)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second of the load")
    parser.add_argument("--connections", type=float, default=20.0, help="connections per second that are held")
    parser.add_argument("what", choices=("load", "hold"))
    args = parser.parse_args()
    work = {
        "load": lambda: load(args.host, args.port, args.rate),
        "hold": lambda: hold(args.host, args.port, args.connections),
    }
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work[args.what]())
    return 0


if __name__ == "__main__":
    sys.exit(main())
