"""Compresses a stream of blocks into a file that starts anew when it is large."""

from __future__ import annotations

import os
import queue
import threading
import zlib

from misbehave import RANDOM, ROOM, pause, work

FLUSH_EVERY, LARGE, PER_S = 300, 2e7, 20

blocks: queue.Queue[bytes] = queue.Queue(50)


def _produce() -> None:
    while True:
        blocks.put(os.urandom(2000) + b"y" * RANDOM.randrange(1000, 9000))
        pause(PER_S)


threading.Thread(target=_produce, daemon=True).start()
with (ROOM / "stream").open("wb") as out:
    count = 0
    while True:
        block = blocks.get()
        work(5)
        out.write(zlib.compress(block, 3))
        count += 1
        if count % FLUSH_EVERY == 0:
            out.flush()
            os.fsync(out.fileno())
        if out.tell() > LARGE:
            out.seek(0)
            out.truncate()
