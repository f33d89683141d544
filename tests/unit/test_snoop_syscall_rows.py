"""Rows of system calls are spelled as one would by hand, however odd their numbers and names are."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from osdetectord.collectors.syscall_log import RECORD
from osdetectord.snoop import syscalls
from osdetectord.snoop.syscalls import SyscallLog

WALL_NS, MONOTONIC_NS = 1_795_393_718_130_255_000, 4_000_000_000
NAMES = {b"redis-server": "redis-server", b'a,"b': '"a,""b"', b"\xffx": "\\udcffx", b"": '""'}


@pytest.fixture
def log(monkeypatch):
    """A log whose clock stands, and whose sampler has nothing to read."""
    clock = SimpleNamespace(time_ns=lambda: WALL_NS, monotonic_ns=lambda: MONOTONIC_NS)
    monkeypatch.setattr(syscalls, "time", clock)
    empty = np.zeros(0, RECORD)
    sampler = SimpleNamespace(lost=lambda: {"logged": 0}, log_syscalls=lambda on: None, logged_syscalls=lambda: empty)
    log = SyscallLog(sampler, SimpleNamespace(write=None), threads=False)
    yield log
    log.stop()
    assert threading.active_count() == 1


def by_hand(row) -> str:
    micros = int(row["time_ns"]) // 1000 + (WALL_NS - MONOTONIC_NS) // 1000
    value = int(row["value"])
    if row["leave"] and value >= 1 << 63:
        value -= 1 << 64
    time = f"{micros // 1_000_000}.{micros % 1_000_000:06d}"
    return f"{time},{row['pid']},{NAMES[row['comm']]},{row['leave']},{row['number']},{value}"


def test_rows_are_what_one_would_spell_by_hand(log):
    rng, size = np.random.default_rng(7), 4999
    records = np.zeros(size, RECORD)
    records["time_ns"] = MONOTONIC_NS + np.sort(rng.integers(0, 3_000_000_000, size))
    records["pid"] = rng.choice([7, 4_194_303], size)
    records["comm"] = rng.choice(list(NAMES), size)
    records["leave"] = rng.integers(0, 2, size)
    records["number"] = rng.choice([0, 1, 461, 1023, 1024, -1, 1 << 30], size)
    odd = [0, 9, 16_383, 16_384, 1 << 47, (1 << 63) - 1, 1 << 63, (1 << 64) - 4097, (1 << 64) - 4096, (1 << 64) - 1]
    records["value"] = rng.choice(np.array(odd, np.uint64), size)
    assert log.formatted(records).decode().splitlines() == [by_hand(row) for row in records]


def test_a_single_row_is_whole(log):
    record = np.array([(MONOTONIC_NS, 5, 11, 12, 0, 1, b"redis-server")], RECORD)
    assert log.formatted(record) == b"1795393718.130255,11,redis-server,1,0,5\n"
