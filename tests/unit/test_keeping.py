"""The history is fed while the disk takes it, and what it does not take is said once."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from structlog.testing import capture_logs

from osdetectord import wall
from osdetectord.config import Config
from osdetectord.core import AnomalyView
from osdetectord.history import History
from osdetectord.history_file import HistoryFile
from osdetectord.keeping import Keeping
from osdetectord.process import Process
from osdetectord.recording import Recording
from osdetectord.target import parse_spec
from osdetectord.watching import Target

S = 1_000_000
START = 1_700_000_000 * S


class OneTarget(list):
    """Stands for the watching of one process whose sample is always the same."""

    def row(self, target):
        return np.array([0.5])

    def of_parts(self, target):
        return {"function.p99[:f]": 0.125}

    def expected(self, target):
        return np.array([0.25]), np.array([0.75])


@pytest.fixture
def disk():
    with ThreadPoolExecutor(1) as executor:
        yield executor


def wait_for(disk):
    """Wait until the disk's thread has done what it was given."""
    disk.submit(int).result(60)


def test_samples_are_kept_at_each_tick_and_expected_ranges_every_ten_seconds(disk):
    history = History(HistoryFile(None), ["cpu.on_cpu"])
    keeping = Keeping(history, None, disk)
    watching = OneTarget([Target(7, parse_spec("42"), 0, True, True)])
    for second in range(31):
        keeping.take(START + second * S, watching)
    history.flush()
    found = history.file.series(7, ["cpu.on_cpu", "cpu.on_cpu:low", "cpu.on_cpu:high"], 0, 100)
    assert len(found["cpu.on_cpu"][0]) == 31
    assert history.file.series(7, ["function.p99[:f]"], 0, 100)["function.p99[:f]"][1] == [0.125] * 31
    assert found["cpu.on_cpu:low"] == ([START + second * S for second in (0, 10, 20, 30)], [0.25] * 4)
    assert found["cpu.on_cpu:high"][1] == [0.75] * 4


def test_a_target_that_cannot_be_kept_is_said_once_and_the_others_are_kept(disk):
    class OneBad(OneTarget):
        bad = True

        def row(self, target):
            if target.number == 7 and self.bad:
                raise ZeroDivisionError
            return super().row(target)

    history = History(HistoryFile(None), ["cpu.on_cpu"])
    keeping = Keeping(history, None, disk)
    watching = OneBad([Target(7, parse_spec("42"), 0, True, True), Target(11, parse_spec("43"), 0, True, True)])
    with capture_logs() as logs:
        for second in range(5):
            watching.bad = second < 3
            keeping.take(START + second * S, watching)
    history.flush()
    assert [len(history.file.series(n, ["cpu.on_cpu"], 0, 100)["cpu.on_cpu"][0]) for n in (7, 11)] == [2, 5]
    assert [entry["log_level"] for entry in logs] == ["error", "info"]


@pytest.mark.parametrize("where", ["file", "memory"])
def test_what_was_kept_just_now_is_in_the_answer(disk, tmp_path, where):
    history = History(HistoryFile(tmp_path / "history.sqlite" if where == "file" else None), ["cpu.on_cpu"])
    keeping = Keeping(history, None, disk)
    keeping.take(START, OneTarget([Target(7, parse_spec("42"), 0, True, True)]))
    found = asyncio.run(keeping.series(7, ["cpu.on_cpu"], 0, 100))
    assert found == {"cpu.on_cpu": ([START], [0.5])}


def test_a_disk_that_takes_nothing_is_said_once_and_once_when_it_takes_again(disk, monkeypatch):
    history = History(HistoryFile(None), ["cpu.on_cpu"])
    keeping = Keeping(history, None, disk)

    def full():
        history.lost_rows += 11
        raise OSError("11 rows of history are lost: database or disk is full")

    with capture_logs() as logs, monkeypatch.context() as patched:
        patched.setattr(history, "flush", full)
        for _ in range(3):
            keeping.tidy(Config())
            wait_for(disk)
        patched.undo()
        for _ in range(2):
            keeping.tidy(Config())
            wait_for(disk)
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    assert keeping.lost() == {"history.rows": 33}


def test_csv_files_that_cannot_be_written_are_said_once_and_once_when_they_are_written_again(disk, tmp_path):
    (tmp_path / "csv").touch()  # no directory can be made of it
    recording = Recording(tmp_path / "csv", ["cpu.on_cpu"])
    keeping = Keeping(History(HistoryFile(None), ["cpu.on_cpu"]), recording, disk)
    with capture_logs() as logs:
        for second in range(5):
            if second == 3:
                (tmp_path / "csv").unlink()
            recording.add(Process(42, 1), "sh", START + second * S, [0.5])
            keeping.tidy(Config())
            wait_for(disk)
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    assert keeping.lost() == {"history.rows": 0, "csv.rows": 3}


def test_a_disk_that_hangs_stops_nobody_and_is_said_once_and_once_when_it_takes_again(disk, tmp_path, monkeypatch):
    history = History(HistoryFile(tmp_path / "history.sqlite"), ["cpu.on_cpu"])
    keeping = Keeping(history, None, disk)
    hangs, go_on, now = threading.Event(), threading.Event(), wall.now_us()

    def hang():
        hangs.set()
        assert go_on.wait(60)

    monkeypatch.setattr("osdetectord.keeping.WRITE_S", 0.1)
    monkeypatch.setattr(history.file, "checkpoint", hang)
    with capture_logs() as logs:
        for at in range(7):
            keeping.tidy(Config())
            assert hangs.wait(60)
            keeping.take(now + at, OneTarget([Target(7, parse_spec("42"), 0, True, True)]))
        assert asyncio.run(keeping.series(7, ["cpu.on_cpu"], 0, 100)) == {"cpu.on_cpu": ([], [])}
        go_on.set()
        wait_for(disk)
        keeping.tidy(Config())
        wait_for(disk)
    assert [entry["log_level"] for entry in logs] == ["error", "info"]
    found = asyncio.run(keeping.series(7, ["cpu.on_cpu"], 0, 100))
    assert len(found["cpu.on_cpu"][0]) == 7 and keeping.lost() == {"history.rows": 0}


def test_an_anomaly_is_written_without_waiting_for_the_next_chore(disk, tmp_path):
    history = History(HistoryFile(tmp_path / "history.sqlite"), ["cpu.on_cpu"])
    Keeping(history, None, disk)
    view = AnomalyView(11, 7, "pid:1", 1, "sh", "open", "anomaly", 5, 0, 3.0, 0.01, ("level",), (), "text")
    history.put_anomaly(view)
    wait_for(disk)
    assert History(HistoryFile(tmp_path / "history.sqlite"), ["cpu.on_cpu"]).anomaly(11) == view
