"""Work for a real redis-server: a steady load of many clients, and a fault to be noticed.

``redis_work.py --port N load`` asks at a steady rate until it is stopped.  ``leak`` is clients that ask for large
values and never read the replies, which the server then has to keep.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import sys

KEYS = 10_007
CLIENTS = 16


def command(*words: str | int | bytes) -> bytes:
    """Return a request in redis's protocol."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


async def read_reply(reader: asyncio.StreamReader) -> None:
    """Read one reply and forget it; an error reply is a reply."""
    line = await reader.readline()
    if not line:
        raise ConnectionResetError("redis-server went away")
    size = int(line[1:]) if line[:1] in b"$*" else 0
    if line[:1] == b"$" and size >= 0:
        await reader.readexactly(size + 2)
    elif line[:1] == b"*":
        for _ in range(size):
            await read_reply(reader)


async def client(host: str, port: int, rate_hz: float, changes: float, seed: int) -> None:
    """Ask at random moments, ``rate_hz`` times a second on the average, for ever; ``changes`` of it are no reads."""
    rng = random.Random(seed)
    reader, writer = await asyncio.open_connection(host, port)
    try:
        while True:
            await asyncio.sleep(rng.expovariate(rate_hz))
            key = f"key:{int(rng.paretovariate(1.1)) % KEYS}"
            if rng.random() >= changes:
                writer.write(command("GET", key))
            elif rng.random() < 5 / 6:
                writer.write(command("SET", key, b"v" * rng.randint(16, 512)))
            else:
                writer.write(command("INCR", f"count:{rng.randrange(100)}"))
            await writer.drain()
            await read_reply(reader)
    finally:
        writer.close()


async def load(host: str, port: int, rate_hz: float, changes: float) -> None:
    """Ask with many clients, ``rate_hz`` times a second in all, until cancelled."""
    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(client(host, port, rate_hz / CLIENTS, changes, number))


async def leak(host: str, port: int, seconds: float, rate_bytes: float) -> None:
    """Let the replies of clients that do not read grow by ``rate_bytes`` a second."""
    value_bytes, step_s = 1 << 18, 0.1
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(command("SET", "large", b"x" * value_bytes))
    await read_reply(reader)
    writer.close()
    loop = asyncio.get_running_loop()
    silent = []
    for _ in range(4):
        connection = socket.socket()
        # a segment as over Ethernet: the loopback's are so long that the kernel takes megabytes off the server's hands
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1448)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await loop.sock_connect(connection, (host, port))
        silent.append(connection)
    owed = 0.0
    end = loop.time() + seconds
    while loop.time() < end:
        owed += rate_bytes * step_s
        while owed >= value_bytes:
            owed -= value_bytes
            silent.append(silent.pop(0))
            await loop.sock_sendall(silent[0], command("GET", "large"))
        await asyncio.sleep(step_s)
    for connection in silent:
        connection.close()


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--rate", type=float, default=400.0, help="requests per second of the load")
    parser.add_argument("--changes", type=float, default=0.3, help="part of them that changes a value")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long a fault lasts")
    parser.add_argument("--bytes-per-second", type=float, default=6e6, help="how fast the leak grows")
    parser.add_argument("what", choices=("load", "leak"))
    args = parser.parse_args()
    work = {
        "load": lambda: load(args.host, args.port, args.rate, args.changes),
        "leak": lambda: leak(args.host, args.port, args.seconds, args.bytes_per_second),
    }
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(work[args.what]())
    return 0


if __name__ == "__main__":
    sys.exit(main())
