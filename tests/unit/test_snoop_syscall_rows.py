"""Rows of system calls are spelled as one would by hand, however odd their numbers and names are."""

from __future__ import annotations

import numpy as np

from osdetectord.collectors.syscall_log import ROW
from osdetectord.snoop.rows import Speller

WALL_NS, MONOTONIC_NS = 1_795_393_718_130_255_000, 4_000_000_000
NAMES = {b"redis-server": "redis-server", b'a,"b': '"a,""b"', b"\xffx": "\\udcffx", b"": '""'}


def text(rows) -> str:
    return Speller("pid").text(rows, WALL_NS - MONOTONIC_NS).decode()


def by_hand(row) -> str:
    micros = int(row["time_ns"]) // 1000 + (WALL_NS - MONOTONIC_NS) // 1000
    value = int(row["value"])
    if row["leave"] and value >= 1 << 63:
        value -= 1 << 64
    time = f"{micros // 1_000_000}.{micros % 1_000_000:06d}"
    return f"{time},{row['pid']},{NAMES[row['comm']]},{row['leave']},{row['number']},{value}"


def test_rows_are_what_one_would_spell_by_hand():
    rng, size = np.random.default_rng(7), 4999
    records = np.zeros(size, ROW)
    records["time_ns"] = MONOTONIC_NS + np.sort(rng.integers(0, 3_000_000_000, size))
    records["pid"] = rng.choice([7, 4_194_303], size)
    records["comm"] = rng.choice(list(NAMES), size)
    records["leave"] = rng.integers(0, 2, size)
    records["number"] = rng.choice([0, 1, 461, 1023, 1024, -1, 1 << 30], size)
    odd = [0, 9, 16_383, 16_384, 1 << 47, (1 << 63) - 1, 1 << 63, (1 << 64) - 4097, (1 << 64) - 4096, (1 << 64) - 1]
    records["value"] = rng.choice(np.array(odd, np.uint64), size)
    assert text(records).splitlines() == [by_hand(row) for row in records]


def test_a_single_row_is_whole():
    record = np.array([(MONOTONIC_NS, 5, 11, 12, 0, 1, b"redis-server")], ROW)
    assert text(record) == "1795393718.130255,11,redis-server,1,0,5\n"
