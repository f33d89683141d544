"""The log of system calls is written by another process, whatever becomes of that, and nothing is lost in silence."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from osdetectord.collectors.syscall_log import CHUNK, CHUNK_RECORDS, NAME, RECORD, Logged
from osdetectord.snoop import syscalls
from osdetectord.snoop.syscalls import SyscallLog
from osdetectord.snoop.table import CannotWrite, CsvFile

COLUMNS = ("TIME", "PID", "COMM", "ACTION", "SYSCALL_ID", "PARM1")
TID = 4711


class FakeSampler:
    """Logs a full chunk of calls at each reading."""

    def __init__(self) -> None:
        self.on: list[bool] = []
        self.readings = 0

    def log_syscalls(self, on: bool) -> None:
        self.on.append(on)

    def logged_syscalls(self) -> Logged:
        now = time.monotonic_ns()
        chunk = np.zeros(1, CHUNK)
        chunk["count"], chunk["rows"] = CHUNK_RECORDS, 2 * CHUNK_RECORDS
        records = chunk["records"][0]
        records["tid"] = TID
        records["entered_ns"] = now + 10 * np.arange(CHUNK_RECORDS)
        records["left_ns"] = records["entered_ns"] + 5
        self.readings += 1
        return Logged(now, 0, np.array([(1, TID, 7, 8, 0, b"fake")], NAME), np.zeros(0, RECORD), chunk)

    @property
    def rows(self) -> int:
        return 2 * CHUNK_RECORDS * self.readings


class Run:
    def __init__(self, path: Path) -> None:
        self.told: list[str] = []
        self.sampler = FakeSampler()
        self.file = CsvFile(path, COLUMNS, self.told.append)
        self.log = SyscallLog(self.sampler, self.file, True, self.told.append)

    def lines(self) -> list[str]:
        return self.file.path.read_text().splitlines()

    def until(self, condition) -> None:
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(syscalls, "PAUSE_S", 0.05)
    return Run(tmp_path / "syscall.csv")


def test_the_file_is_whole_when_the_log_has_stopped(run):
    run.until(lambda: run.sampler.readings > 5)
    run.log.stop()
    run.file.end()

    header, *rows, end = run.lines()
    assert (header, end) == (",".join(COLUMNS), "END")
    assert len(rows) == run.file.rows == run.sampler.rows
    assert all(row.split(",")[1:3] == ["8", "fake"] for row in rows)
    assert (run.file.lost, run.told, run.sampler.on) == (0, [], [True, False])


def test_rows_are_written_while_the_log_is_on_and_by_whom_nobody_waits_for(run):
    run.until(lambda: len(run.lines()) > 4 * CHUNK_RECORDS)
    policy = os.sched_getscheduler(run.log._writer.pid)
    run.log.stop()
    run.file.end()

    assert policy == os.SCHED_IDLE


def test_it_hurries_where_too_much_waits_and_no_longer_where_it_does_not(run, monkeypatch):
    writer = run.log._writer.pid
    run.until(lambda: len(run.lines()) > 1)
    monkeypatch.setattr(syscalls, "MOST_WAITING", 10_000)
    os.kill(writer, signal.SIGSTOP)
    run.until(lambda: os.sched_getscheduler(writer) == os.SCHED_OTHER)
    os.kill(writer, signal.SIGCONT)
    run.until(lambda: os.sched_getscheduler(writer) == os.SCHED_IDLE)
    run.log.stop()
    run.file.end()

    assert len(run.lines()) == run.sampler.rows + 2


def test_what_takes_long_at_the_end_is_said(run, monkeypatch):
    monkeypatch.setattr(syscalls, "PATIENCE_S", 0.0)
    run.until(lambda: run.sampler.readings > 2)
    run.log.stop()
    run.file.end()

    (said,) = run.told
    assert "writing the last" in said
    assert len(run.lines()) == run.sampler.rows + 2


def test_a_writer_that_is_killed_is_told_and_its_rows_are_counted(run):
    run.until(lambda: len(run.lines()) > 1)
    os.kill(run.log._writer.pid, signal.SIGKILL)
    run.until(lambda: run.sampler.readings > 9)
    run.log.stop()
    run.file.end()

    (said,) = run.told
    assert "syscall.csv: what writes it has ended with status -9: rows are lost" in said
    header, *rows, end = run.lines()
    assert (header, end) == (",".join(COLUMNS), "END")
    assert len(rows) == run.file.rows
    assert run.file.lost == run.sampler.rows - run.file.rows > 0
    assert all(row.count(",") == 5 for row in rows)


def test_where_the_spool_has_no_room_rows_are_lost_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(syscalls, "PAUSE_S", 0.05)
    run = Run(tmp_path / "syscall.csv")
    run.until(lambda: len(run.lines()) > 1)

    def full(pieces) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(run.log._spool, "put", full)
    run.until(lambda: run.told)
    run.log.stop()
    run.file.end()

    assert run.told == [f"{run.file.path}: no room for what is to be written: no space left on device: rows are lost"]
    assert run.file.lost == run.sampler.rows - run.file.rows > 0


def test_without_a_place_for_what_waits_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))

    with pytest.raises(CannotWrite, match=r"none/osdetectord-\w+: can't be written: no such file or directory"):
        Run(tmp_path / "syscall.csv")
