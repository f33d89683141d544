"""The history gives back what was put in, thinned where asked, and survives a corrupt file."""

import resource
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from osdetectord import history_file
from osdetectord.core import AnomalyView, BlameView
from osdetectord.history import History
from osdetectord.history_file import HistoryFile, split

NAMES = ("cpu.on_cpu", "memory.rss")


def anomaly(number, **changes):
    blame = BlameView("memory.rss", "bytes", 1.0, 2.0, 0.0, 1.0, 5)
    view = AnomalyView(
        number, 7, "pid:1", 1, "sh", "open", "anomaly", number * 10, 0, 3.0, 0.01, ("level",), (blame,), "text"
    )
    return replace(view, **changes)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "history.sqlite"


def test_samples_come_back_by_metric_without_missing_ones(path):
    history = History(HistoryFile(path), NAMES)
    history.add(7, 1000, np.array([0.5, 100.0]))
    history.add(7, 2000, np.array([np.nan, 200.0]))
    history.add(8, 1000, np.array([9.0, 9.0]))
    history.flush()
    assert history.file.series(7, NAMES, 0, 100) == {
        "cpu.on_cpu": ([1000], [0.5]),
        "memory.rss": ([1000, 2000], [100.0, 200.0]),
    }
    assert history.file.series(7, NAMES[1:], 1500, 100) == {"memory.rss": ([2000], [200.0])}


def test_no_more_points_than_asked_and_the_newest_among_them(path):
    history = History(HistoryFile(path), NAMES)
    for at in range(997):
        history.add(7, at, np.array([at, at], float))
    history.flush()
    times, _ = history.file.series(7, NAMES, 0, 100)["memory.rss"]
    assert 90 <= len(times) <= 100 and times[-1] == 996


def test_samples_survive_new_metrics_in_another_order(path):
    history = History(HistoryFile(path), NAMES)
    history.add(7, 1000, np.array([0.5, 100.0]))
    history.close()
    again = History(HistoryFile(path), ("net.bytes", *reversed(NAMES)))
    again.add(7, 2000, np.array([1.0, 200.0, 0.75]))
    again.flush()
    assert again.file.series(7, NAMES, 0, 9) == {
        "cpu.on_cpu": ([1000, 2000], [0.5, 0.75]),
        "memory.rss": ([1000, 2000], [100.0, 200.0]),
    }


S = 1_000_000
HOUR = 3600 * S
ROOM = 1 << 30


def seen(history, seconds, target=7):
    """A sample each second, with one spike."""
    for at in range(seconds):
        history.add(target, at * S, np.array([101.0 if at == 997 else 1.0, 5.0]))
    history.flush()


def test_samples_of_parts_come_and_go_beside_those_that_are_always_there(path):
    history = History(HistoryFile(path), ["cpu.on_cpu"])
    name = "function.p99[libc:open]"
    for at in range(6):
        history.add(7, at, np.array([float(at)]), {name: 10.0 + at} if at in (2, 3) else {})
    history.flush()
    found = history.file.series(7, ["cpu.on_cpu", name, f"{name}:max"], 0, 100)

    assert found["cpu.on_cpu"] == ([0, 1, 2, 3, 4, 5], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    assert found[name] == ([2, 3], [12.0, 13.0])
    assert found[f"{name}:max"] == ([2, 3], [12.0, 13.0])
    assert history.names() == {"cpu.on_cpu", name}


@pytest.mark.parametrize(
    "name, metric, part",
    [
        ("cpu.on_cpu", "cpu.on_cpu", ""),
        ("cpu.on_cpu:max", "cpu.on_cpu", "max"),
        ("function.p99[:f]", "function.p99[:f]", ""),
        ("function.p99[libc:max]:low", "function.p99[libc:max]", "low"),
        ("function.p99[:a::operator[](int)]", "function.p99[:a::operator[](int)]", ""),
    ],
)
def test_a_function_s_colons_are_its_own(name, metric, part):
    assert split(name) == (metric, part)


def test_samples_grow_coarser_with_age_and_keep_their_spikes(path):
    history = History(HistoryFile(path), NAMES)
    seen(history, 7200)
    history.file.thin(7200 * S, 600, 1e9, ROOM)  # the last 600 s as they were, the rest by 10 s
    times, values = history.file.series(7, ["cpu.on_cpu"], 0, 100_000)["cpu.on_cpu"]
    assert (times[0], times[1] - times[0], times[-1] - times[-2]) == (9 * S, 10 * S, S)
    assert len(times) == 660 + 600 and times == sorted(times)
    assert values[99] == pytest.approx(11.0) and set(values[:99] + values[100:]) == {1.0}
    history.file.thin(7200 * S + 24 * 600 * S, 600, 1e9, ROOM)  # now by minutes, as far as whole ones are old enough
    found = history.file.series(7, ["cpu.on_cpu", "cpu.on_cpu:min", "cpu.on_cpu:max"], 0, 100_000)
    assert set(np.diff(found["cpu.on_cpu"][0])) == {60 * S}
    assert found["cpu.on_cpu:max"][1][997 // 60] == 101.0 and found["cpu.on_cpu:min"][1][997 // 60] == 1.0
    assert len(found["cpu.on_cpu"][0]) == 120


def test_thinning_over_and_over_loses_no_second(path):
    history = History(HistoryFile(path), NAMES)
    for at in range(600):
        history.add(7, at * S, np.array([float(at), 1.0]))
        if at % 7 == 0:
            history.flush()
            history.file.thin(at * S, 60, 1e9, ROOM)
    history.flush()
    times, values = history.file.series(7, ["cpu.on_cpu"], 0, 1)["cpu.on_cpu"]
    assert len(times) == 1 and values[0] == pytest.approx(299.5, abs=3)


def test_what_is_too_much_to_thin_at_once_is_thinned_by_whole_steps(path, monkeypatch):
    monkeypatch.setattr(history_file, "_MOST_THINNED", 25)
    history = History(HistoryFile(path), NAMES)
    for target in (7, 11):
        seen(history, 120, target)
    for _ in range(10):
        history.file.thin(120 * S, 0, 1e9, ROOM)
    for target in (7, 11):
        times, _ = history.file.series(target, ["cpu.on_cpu"], 0, 1000)["cpu.on_cpu"]
        assert times == [59 * S, 119 * S]


def test_a_thinned_answer_has_mean_and_extremes_of_each_point(path):
    history = History(HistoryFile(path), NAMES)
    seen(history, 2000)
    found = history.file.series(7, ["cpu.on_cpu", "cpu.on_cpu:max", "cpu.on_cpu:min"], 0, 20)
    assert max(found["cpu.on_cpu:max"][1]) == 101.0 and max(found["cpu.on_cpu"][1]) == pytest.approx(2.0)
    assert set(found["cpu.on_cpu:min"][1]) == {1.0} and len(found["cpu.on_cpu"][0]) == 20


def test_the_expected_range_is_kept_and_grows_coarser_too(path):
    history = History(HistoryFile(path), NAMES)
    for at in range(0, 1200, 10):
        history.add_expected(7, at * S, np.array([1.0, np.nan]), np.array([3.0, np.nan]))
    history.flush()
    names = ["cpu.on_cpu:low", "cpu.on_cpu:high", "memory.rss:high", "cpu.on_cpu"]
    found = history.file.series(7, names, 0, 100_000)
    assert found["cpu.on_cpu:low"] == ([at * S for at in range(0, 1200, 10)], [1.0] * 120)
    assert found["memory.rss:high"] == found["cpu.on_cpu"] == ([], [])
    history.file.thin(1200 * S + 25 * HOUR, 3600, 1e9, ROOM)
    assert history.file.series(7, names, 0, 100_000)["cpu.on_cpu:high"] == (
        [at * S for at in range(50, 1200, 60)], [3.0] * 20
    )  # fmt: skip


def test_what_is_too_old_is_forgotten(path):
    history = History(HistoryFile(path), NAMES)
    seen(history, 600)
    for number in (1, 2, 3):
        history.put_anomaly(anomaly(number, opened_us=number * 100 * S, closed_us=0 if number == 1 else 9))
    history.flush()
    history.file.thin(600 * S, 3600, 300.0, ROOM)
    assert history.file.series(7, NAMES[:1], 0, 9999)["cpu.on_cpu"][0][0] == 300 * S
    # an open one stays, and the newest, so that its number is not given again
    assert [view.number for view in history.anomalies(0, ROOM, None, False, 9)] == [3, 1]
    history.file.thin(10_000 * S, 3600, 300.0, ROOM)
    assert history.last_anomaly() == 3


def test_what_takes_too_much_room_loses_its_oldest_part_first(path):
    history = History(HistoryFile(path), NAMES)
    seen(history, 30_000)
    evidence = bytes(range(256)) * 40
    for number in range(1, 41):
        history.put_anomaly(anomaly(number, opened_us=number * 700 * S, closed_us=1), evidence)
    history.flush()
    whole = history.file.used_bytes()
    limit = whole // 3
    history.file.thin(30_000 * S, 604_800, 1e9, limit)
    times = history.file.series(7, NAMES[:1], 0, 100_000)["cpu.on_cpu"][0]
    assert history.file.used_bytes() <= limit and times[-1] == 29_999 * S and times[0] > 15_000 * S
    left = [view.opened_us for view in history.anomalies(0, 1 << 62, None, False, 99)]
    assert left and min(left) >= times[0]
    history.file.checkpoint()
    history.close()
    assert path.stat().st_size < whole // 2


def without_room(more):
    """Let no file of this process grow beyond so many bytes."""
    return resource.prlimit(0, resource.RLIMIT_FSIZE, (more, resource.RLIM_INFINITY))


def test_a_full_disk_loses_samples_that_are_counted_and_keeps_anomalies_until_it_has_room(path):
    history = History(HistoryFile(path), NAMES)
    seen(history, 10)
    before = without_room(path.with_name("history.sqlite-wal").stat().st_size + 100)
    try:
        for at in range(10, 17):
            history.add(7, at * S, np.ones(2))
        with pytest.raises(OSError, match="7 rows of history are lost: "):
            history.flush()
        history.put_anomaly(anomaly(1), b"evidence")
        with pytest.raises(OSError, match="anomaly 1 can't be written"):
            history.write_anomalies()
        history.put_anomaly(anomaly(1, score=5.0))
        with pytest.raises(OSError, match="anomaly 1 can't be written"):
            history.flush()
        assert history.anomaly(1) == anomaly(1, score=5.0) and history.evidence(1) == b"evidence"
        assert history.anomalies(0, 100, 7, True, 9) == [anomaly(1, score=5.0)]
    finally:
        resource.prlimit(0, resource.RLIMIT_FSIZE, before)
    assert history.lost_rows == 7
    history.add(7, 17 * S, np.ones(2))
    history.flush()
    history.close()
    again = History(HistoryFile(path), NAMES)
    assert again.file.series(7, NAMES[:1], 0, 99)["cpu.on_cpu"][0] == [at * S for at in (*range(10), 17)]
    assert again.anomaly(1) == anomaly(1, score=5.0) and again.evidence(1) == b"evidence"


def test_whoever_hands_over_and_whoever_asks_for_anomalies_waits_for_no_writer(path):
    history = History(HistoryFile(path), NAMES)
    seen(history, 10)
    history.put_anomaly(anomaly(1))
    history.flush()
    hangs, go_on = threading.Event(), threading.Event()

    def hang():
        with history.file._writing:
            hangs.set()
            assert go_on.wait(60)

    with ThreadPoolExecutor(1) as disk:
        hanging = disk.submit(hang)
        try:
            assert hangs.wait(60)
            history.add(7, 10 * S, np.ones(2), {"function.p99[:f]": 1.0})
            history.add_expected(8, 10 * S, np.ones(2), np.ones(2))
            history.put_anomaly(anomaly(2), b"evidence")
            assert [view.number for view in history.anomalies(0, 100, None, False, 9)] == [2, 1]
            assert (history.anomaly(1), history.last_anomaly()) == (anomaly(1), 2)
            assert (history.evidence(1), history.evidence(2)) == (b"", b"evidence")
            assert history.knows(7) and history.knows(8) and not history.knows(9)
            assert "function.p99[:f]" in history.names()
            assert len(history.file.series(7, NAMES[:1], 0, 99)["cpu.on_cpu"][0]) == 10
            assert not hanging.done()
        finally:
            go_on.set()
    history.flush()
    assert history.lost_rows == 0 and len(history.file.series(7, NAMES[:1], 0, 99)["cpu.on_cpu"][0]) == 11


def test_what_does_not_fit_while_it_waits_is_counted_as_lost(path, monkeypatch):
    monkeypatch.setattr("osdetectord.history._MOST_WAITING", 7 * (200 + 8))
    history = History(HistoryFile(path), NAMES)
    for at in range(18):
        history.add(7, at, np.ones(2))
    assert history.lost_rows == 11
    history.flush()
    history.add(7, 18, np.ones(2))
    history.flush()
    assert history.file.series(7, NAMES[:1], 0, 99)["cpu.on_cpu"][0] == [*range(7), 18]


def test_anomalies_that_wait_keep_the_evidence_of_the_newest(path, monkeypatch):
    monkeypatch.setattr("osdetectord.history._MOST_EVIDENCE", 5000)
    history = History(HistoryFile(path), NAMES)
    noise = np.random.default_rng(3).bytes(1009)
    for number in range(1, 8):
        history.put_anomaly(anomaly(number), noise)
    assert [len(history.evidence(number)) for number in range(1, 8)] == [0] * 3 + [1009] * 4
    assert len(history.anomalies(0, 1000, None, False, 9)) == 7


def test_what_of_an_anomaly_cannot_be_read_is_an_error_of_the_disk(path):
    history = History(HistoryFile(path), NAMES)
    history.put_anomaly(anomaly(1), b"evidence")
    history.flush()
    history.file._db.execute("UPDATE anomaly SET evidence = x'ff'")
    history.file._db.commit()
    with pytest.raises(OSError, match="the evidence of anomaly 1 can't be read: "):
        history.evidence(1)
    history.file._db.execute("DROP TABLE anomaly")
    for ask in (lambda: history.anomaly(1), lambda: history.anomalies(0, 99, None, False, 9)):
        with pytest.raises(OSError, match="the history can't be read: "):
            ask()


def test_a_disk_that_takes_nothing_at_the_start_leaves_the_history_in_memory(path):
    before = without_room(100)
    try:
        file, trouble = HistoryFile.open(path)
    finally:
        resource.prlimit(0, resource.RLIMIT_FSIZE, before)
    assert f"the history is kept in memory only, {path} can't be used" in trouble
    history = History(file, NAMES)
    history.put_anomaly(anomaly(1))
    assert history.last_anomaly() == 1 and not path.with_name("history.sqlite.corrupt").exists()


def test_an_anomaly_keeps_its_evidence_over_updates_and_reopening(path):
    history = History(HistoryFile(path), NAMES)
    history.put_anomaly(anomaly(1), b"evidence")
    history.put_anomaly(anomaly(1, state="closed", closed_us=99, score=5.0))
    history.close()
    again = History(HistoryFile(path), NAMES)
    assert again.anomaly(1) == anomaly(1, state="closed", closed_us=99, score=5.0)
    assert (again.evidence(1), again.evidence(2), again.anomaly(2), again.last_anomaly()) == (b"evidence", b"", None, 1)


def test_anomalies_are_listed_newest_first_and_filtered(path):
    history = History(HistoryFile(path), NAMES)
    for number in (1, 2, 3):
        history.put_anomaly(anomaly(number, target=number % 2, closed_us=0 if number == 3 else 1))
    listed = lambda *a: [view.number for view in history.anomalies(*a)]  # noqa: E731
    assert listed(0, 1000, None, False, 9) == [3, 2, 1]
    assert listed(15, 25, None, False, 9) == [2]
    assert listed(0, 1000, 1, False, 9) == [3, 1]
    assert listed(0, 1000, None, True, 9) == [3]
    assert listed(0, 1000, None, False, 2) == [3, 2]


def test_what_a_dead_daemon_left_open_is_closed(path):
    history = History(HistoryFile(path), NAMES)
    history.put_anomaly(anomaly(1))
    (closed,) = history.close_open(777)
    assert (closed.state, closed.closed_us) == ("closed", 777)
    assert history.anomalies(0, 1000, None, True, 9) == []


@pytest.mark.parametrize("garbage", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_corrupt_file_is_set_aside_and_a_new_one_begun(path, garbage):
    path.write_bytes(garbage)
    file, trouble = HistoryFile.open(path)
    History(file, NAMES).put_anomaly(anomaly(1))
    assert "set aside as" in trouble and path.with_name("history.sqlite.corrupt").read_bytes() == garbage
