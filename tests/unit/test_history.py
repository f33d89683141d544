"""The history gives back what was put in, thinned where asked, and survives a corrupt file."""

from dataclasses import replace

import numpy as np
import pytest

from osdetectord.core import AnomalyView, BlameView
from osdetectord.history import History

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
    history = History(path, NAMES)
    history.add(7, 1000, np.array([0.5, 100.0]))
    history.add(7, 2000, np.array([np.nan, 200.0]))
    history.add(8, 1000, np.array([9.0, 9.0]))
    history.flush()
    assert history.series(7, NAMES, 0, 100) == {
        "cpu.on_cpu": ([1000], [0.5]),
        "memory.rss": ([1000, 2000], [100.0, 200.0]),
    }
    assert history.series(7, NAMES[1:], 1500, 100) == {"memory.rss": ([2000], [200.0])}


def test_no_more_points_than_asked_and_the_newest_among_them(path):
    history = History(path, NAMES)
    for at in range(997):
        history.add(7, at, np.array([at, at], float))
    history.flush()
    times, _ = history.series(7, NAMES, 0, 100)["memory.rss"]
    assert 90 <= len(times) <= 100 and times[-1] == 996


def test_samples_survive_new_metrics_in_another_order(path):
    history = History(path, NAMES)
    history.add(7, 1000, np.array([0.5, 100.0]))
    history.close()
    again = History(path, ("net.bytes", *reversed(NAMES)))
    again.add(7, 2000, np.array([1.0, 200.0, 0.75]))
    again.flush()
    assert again.series(7, NAMES, 0, 9) == {
        "cpu.on_cpu": ([1000, 2000], [0.5, 0.75]),
        "memory.rss": ([1000, 2000], [100.0, 200.0]),
    }


def test_old_samples_are_forgotten(path):
    history = History(path, NAMES)
    for at in (1, 2, 3):
        history.add(7, at, np.ones(2))
    history.flush()
    history.thin(3)
    assert history.series(7, NAMES[:1], 0, 9)["cpu.on_cpu"][0] == [3]


def test_an_anomaly_keeps_its_evidence_over_updates_and_reopening(path):
    history = History(path, NAMES)
    history.put_anomaly(anomaly(1), b"evidence")
    history.put_anomaly(anomaly(1, state="closed", closed_us=99, score=5.0))
    history.close()
    again = History(path, NAMES)
    assert again.anomaly(1) == anomaly(1, state="closed", closed_us=99, score=5.0)
    assert (again.evidence(1), again.evidence(2), again.anomaly(2), again.last_anomaly()) == (b"evidence", b"", None, 1)


def test_anomalies_are_listed_newest_first_and_filtered(path):
    history = History(path, NAMES)
    for number in (1, 2, 3):
        history.put_anomaly(anomaly(number, target=number % 2, closed_us=0 if number == 3 else 1))
    listed = lambda *a: [view.number for view in history.anomalies(*a)]  # noqa: E731
    assert listed(0, 1000, None, False, 9) == [3, 2, 1]
    assert listed(15, 25, None, False, 9) == [2]
    assert listed(0, 1000, 1, False, 9) == [3, 1]
    assert listed(0, 1000, None, True, 9) == [3]
    assert listed(0, 1000, None, False, 2) == [3, 2]


def test_what_a_dead_daemon_left_open_is_closed(path):
    history = History(path, NAMES)
    history.put_anomaly(anomaly(1))
    (closed,) = history.close_open(777)
    assert (closed.state, closed.closed_us) == ("closed", 777)
    assert history.anomalies(0, 1000, None, True, 9) == []


@pytest.mark.parametrize("garbage", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_corrupt_file_is_set_aside_and_a_new_one_begun(path, garbage):
    path.write_bytes(garbage)
    history, trouble = History.open(path, NAMES)
    history.put_anomaly(anomaly(1))
    assert "set aside as" in trouble and path.with_name("history.sqlite.corrupt").read_bytes() == garbage
