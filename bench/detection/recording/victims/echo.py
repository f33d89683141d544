"""A server in asyncio that answers each line with its digest, at some length."""

from __future__ import annotations

import asyncio
import hashlib
import sys

from misbehave import RANDOM, vices, work


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while line := await reader.readline():
        if vices["slow"]:
            await asyncio.sleep(vices["slow"] / 1000)
        if vices["cost"]:
            work(int(vices["cost"]) * 100)
        writer.write(hashlib.sha1(line).hexdigest().encode() * RANDOM.randrange(1, 40) + b"\n")
        await writer.drain()


async def _main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", int(sys.argv[3]))
    await server.serve_forever()


asyncio.run(_main())
