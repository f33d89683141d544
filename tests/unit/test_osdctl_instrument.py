"""What a probe or a trace tells is read to its end, however long its lines are."""

import asyncio
import json
import socket

from osdctl import instrument
from osdctl.errors import NoSuch
from osdctl.model import Trace

TRACE = Trace(7, "all", "on", 0, 20_000, True, (), 0, 0.0, 0, "main(n: int)", 0)


class Manager:
    """Has one trace that told these lines and ended."""

    def __init__(self, *lines):
        self._lines = lines

    async def follow(self, what, backlog):
        theirs, ours = socket.socketpair()
        self._given = asyncio.ensure_future(self._give(theirs))
        return ours.detach()

    async def _give(self, end):
        end.setblocking(False)
        for line in self._lines:
            await asyncio.get_running_loop().sock_sendall(end, json.dumps(line).encode() + b"\n")
        end.close()

    async def trace(self, number):
        raise NoSuch(f"no trace {number}")


async def read(*lines):
    return [record async for record in instrument.records(TRACE, Manager(*lines), 10)]


def test_a_line_may_be_long():
    lines = [{"text": "x" * length} for length in (1, 300_000, 2)]

    assert asyncio.run(read(*lines)) == lines


def test_what_was_missed_is_a_remark(capsys):
    assert asyncio.run(read({"text": "a"}, {"missed": 3}, {"text": "b"})) == [{"text": "a"}, {"text": "b"}]
    assert capsys.readouterr().err.startswith("osdctl: 3 missed")
