"""A follower's stream: every line in order, nobody waited for, and what was left out is counted."""

from __future__ import annotations

import asyncio
import json
import os
import socket

from osdetectord.follower import MAX_WAITING, Follower

LINES = [b"%d" % n for n in range(997)]


async def read(descriptor: int) -> bytes:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor))
    said = await reader.read()
    writer.close()
    return said


def test_every_line_comes_and_then_the_end():
    async def run() -> tuple[bytes, list[Follower]]:
        gone: list[Follower] = []
        follower = Follower(gone.append)
        descriptor = follower.give()
        for line in LINES:
            follower.send([line])
        follower.end()
        return await read(descriptor), gone

    said, gone = asyncio.run(run())
    assert said.split(b"\n") == [*LINES, b""]
    assert len(gone) == 1


def test_what_a_slow_reader_misses_is_counted_where_it_is_missing():
    line, more = b"x" * 1009, 3 * MAX_WAITING // 1009

    async def run() -> bytes:
        follower = Follower(lambda _: None)
        descriptor = follower.give()
        follower.send([b"first", *[line] * more])
        reading = asyncio.create_task(read(descriptor))
        await asyncio.sleep(0.1)
        follower.send([b"last"])
        follower.end()
        return await reading

    first, *middle, missed, last, nothing = asyncio.run(run()).split(b"\n")
    assert (first, last, nothing) == (b"first", b"last", b"")
    assert set(middle) == {line}
    assert len(middle) + json.loads(missed)["missed"] == more
    assert json.loads(missed)["missed"] > 0


def test_what_is_missed_last_is_counted_too():
    async def run() -> bytes:
        follower = Follower(lambda _: None)
        descriptor = follower.give()
        follower.send([b"x" * 1009] * (2 * MAX_WAITING // 1009))
        follower.end()
        return await read(descriptor)

    *lines, missed, _ = asyncio.run(run()).split(b"\n")
    assert len(lines) + json.loads(missed)["missed"] == 2 * MAX_WAITING // 1009


def test_a_reader_that_leaves_is_let_go():
    async def run() -> list[Follower]:
        gone: list[Follower] = []
        for leaves_first in (True, False):
            follower = Follower(gone.append)
            descriptor = follower.give()
            if leaves_first:
                os.close(descriptor)
                follower.send([b"x"])
            else:
                follower.send([b"x"])
                os.close(descriptor)
            await asyncio.sleep(0.05)
            follower.send([b"x"])
        return gone

    assert len(asyncio.run(run())) == 2


def test_what_a_reader_says_is_passed_over():
    async def run() -> bytes:
        follower = Follower(lambda _: None)
        descriptor = follower.give()
        os.write(descriptor, b"hello" * 1009)
        await asyncio.sleep(0.05)
        follower.send([b"x"])
        follower.end()
        return await read(descriptor)

    assert asyncio.run(run()) == b"x\n"
