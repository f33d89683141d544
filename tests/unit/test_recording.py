"""Recorded samples come back row by row, within the room there is."""

import errno
import math
from pathlib import Path

import pytest

from osdetectord import offline
from osdetectord.process import Process
from osdetectord.recording import IDLE_FLUSHES, MOST_ROWS, PARTS, Recording

REDIS, NGINX = Process(1234, 77), Process(99, 78)
MIB = 1 << 20


def files(directory):
    return sorted(path.name for path in directory.glob("*.csv"))


def test_rows_are_as_offline_detection_reads_them(tmp_path):
    recording = Recording(tmp_path / "csv", ("a", "b"))
    recording.add(REDIS, "redis-server", 1_700_000_000_250_000, [1.5, math.nan])
    recording.flush(MIB)
    recording.add(REDIS, "redis-server", 1_700_000_001_250_000, [2e9, 3.25])
    recording.flush(MIB)

    (path,) = (tmp_path / "csv").iterdir()
    assert path.name == "redis-server-1234-20231114T221320Z.csv"
    (table,) = offline.read(path)
    assert table.metrics == ("a", "b")
    assert table.times == ("1700000000.250000", "1700000001.250000")
    assert table.values[1].tolist() == [2e9, 3.25]
    assert table.values[0, 0] == 1.5
    assert math.isnan(table.values[0, 1])


def test_each_process_has_a_file_whose_name_is_safe(tmp_path):
    recording = Recording(tmp_path, ("a",))
    recording.add(REDIS, "../../x y\n", 0, [1])
    recording.add(NGINX, "", 0, [1])
    recording.flush(MIB)

    assert files(tmp_path) == [".._.._x_y_-1234-19700101T000000Z.csv", "process-99-19700101T000000Z.csv"]


def test_a_large_file_is_followed_by_another_and_the_oldest_goes(tmp_path):
    limit = 16 * 1024
    recording = Recording(tmp_path, ("a",))
    for second in range(1500):
        recording.add(REDIS, "redis", second * 1_000_000, [second])
        if second % 10 == 9:
            recording.flush(limit)

    kept = [offline.read(path)[0] for path in sorted(tmp_path.iterdir())]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= limit
    assert len(kept) >= PARTS // 2
    # one after another, nothing twice and nothing between, up to the last
    seconds = [value for table in kept for value in table.values[:, 0].tolist()]
    assert seconds == list(range(int(seconds[0]), 1500))
    assert seconds[0] > 0


def test_a_full_disk_costs_rows_but_no_row_is_cut(tmp_path, monkeypatch):
    recording = Recording(tmp_path, ("a",))
    recording.add(REDIS, "redis", 0, [1])
    recording.flush(MIB)
    real_open = Path.open

    class Full:
        """A file on a disk with room for five bytes more."""

        def __init__(self, file):
            self._file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self._file.close()

        def write(self, data):
            self._file.write(data[:5])
            self._file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name):
            return getattr(self._file, name)

    monkeypatch.setattr(Path, "open", lambda self, mode: Full(real_open(self, mode)))
    recording.add(REDIS, "redis", 1_000_000, [2])
    recording.add(REDIS, "redis", 2_000_000, [3])
    with pytest.raises(OSError, match="No space"):
        recording.flush(MIB)
    monkeypatch.undo()
    recording.add(REDIS, "redis", 3_000_000, [4])
    recording.flush(MIB)

    (path,) = tmp_path.iterdir()
    assert offline.read(path)[0].values[:, 0].tolist() == [1, 4]
    assert recording.lost == 2


def test_a_pid_that_is_given_again_has_a_file_of_its_own(tmp_path):
    recording = Recording(tmp_path, ("a",))
    recording.add(REDIS, "redis", 0, [1])
    recording.flush(MIB)
    recording.add(Process(1234, 99), "redis", 5_000_000, [2])
    recording.flush(MIB)

    assert files(tmp_path) == ["redis-1234-19700101T000000Z.csv", "redis-1234-19700101T000005Z.csv"]


def test_who_has_no_more_rows_is_let_go(tmp_path):
    recording = Recording(tmp_path, ("a",))
    recording.add(REDIS, "redis", 0, [1])
    for _ in range(IDLE_FLUSHES + 1):
        recording.flush(MIB)
    recording.add(REDIS, "redis", 9_000_000, [2])
    recording.flush(MIB)

    assert files(tmp_path) == ["redis-1234-19700101T000000Z.csv", "redis-1234-19700101T000009Z.csv"]


def test_rows_that_wait_for_a_disk_are_bounded_and_the_rest_is_counted(tmp_path):
    recording = Recording(tmp_path, ("a",))
    for second in range(MOST_ROWS + 7):
        recording.add(REDIS, "redis", second * 1_000_000, [second])
    recording.flush(MIB)

    (path,) = tmp_path.iterdir()
    assert len(offline.read(path)[0].times) == MOST_ROWS
    assert recording.lost == 7
