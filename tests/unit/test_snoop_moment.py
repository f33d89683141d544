"""Rises of counters between moments: of what lived before, of what came later, and of what ended."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from osdetectord.metric import Kind, Metric
from osdetectord.process import Process, ProcessInfo
from osdetectord.sample import Frame
from osdetectord.sampler import Exited, ProcessSeries, Tick
from osdetectord.snoop.moment import Moment, Moments

WORK = Metric("cpu.work", "s", Kind.COUNTER)
OTHER = Metric("cpu.other", "s", Kind.COUNTER)
METRICS = (WORK, OTHER)


def about(series: int) -> ProcessSeries:
    info = ProcessInfo(Process(1000 + series, 1), 1, f"p{series}", "", 0)
    return ProcessSeries(series, info, None, series)


def tick(
    readings: dict[int, tuple[float, float]], started: tuple[int, ...] = (), exited: tuple[Exited, ...] = ()
) -> Tick:
    series = np.array(list(readings), dtype=np.uint64)
    values = np.array(list(readings.values()), dtype=float).reshape(-1, 2)
    frame = Frame(0, 1.0, series, METRICS, values)
    return Tick(frame, values, tuple(map(about, started)), (), exited, ())


def gone(series: int, work: float) -> Exited:
    return Exited(series, Process(1000 + series, 1), f"p{series}", 0, 0, False, {WORK.name: work})


class Clock:
    def __init__(self) -> None:
        self.moments, self.now_s = Moments(METRICS), 100.0

    def at(self, tick: Tick) -> Moment:
        self.now_s += 2.0
        return self.moments.of(tick, 0.0, self.now_s)


def test_counts_from_the_first_moment():
    clock = Clock()
    clock.moments.know(about(1))
    first = clock.at(tick({1: (50.0, 5.0)}))
    second = clock.at(tick({1: (53.0, 5.0)}))

    assert (first.rise(1, WORK), first.interval_s) == (0.0, 0.0)
    assert (second.rise(1, WORK), second.rise(1, OTHER), second.interval_s) == (3.0, 0.0, 2.0)


def test_who_comes_later_began_with_nothing():
    clock = Clock()
    clock.at(tick({1: (50.0, 5.0)}, started=(1,)))
    moment = clock.at(tick({1: (50.0, 5.0), 2: (7.0, 1.0)}, started=(2,)))

    assert moment.rise(2, WORK) == 7.0
    assert moment.alive[2].comm == "p2"


def test_who_ends_has_its_last_rise():
    clock = Clock()
    clock.at(tick({1: (50.0, 5.0)}, started=(1,)))
    clock.at(tick({1: (51.0, 5.0), 2: (7.0, 1.0)}, started=(2,)))
    moment = clock.at(tick({}, exited=(gone(1, 4.0), gone(2, 9.0))))

    assert (moment.rise(1, WORK), moment.rise(2, WORK)) == (3.0, 2.0)
    assert [series for series, _ in moment.everybody()] == [1, 2]
    assert not moment.alive


def test_who_lived_shorter_than_an_interval_is_seen_at_its_end():
    clock = Clock()
    clock.at(tick({}))
    moment = clock.at(tick({}, started=(3,), exited=(gone(3, 0.25),)))

    assert moment.rise(3, WORK) == 0.25
    assert moment.ended[3].process.pid == 1003


def test_a_reading_that_is_missing_once_is_made_up_for():
    clock = Clock()
    clock.at(tick({1: (50.0, 5.0)}, started=(1,)))
    missing = clock.at(tick({1: (float("nan"), 5.0)}))
    after = clock.at(tick({1: (58.0, 5.0)}))

    assert (missing.rise(1, WORK), after.rise(1, WORK)) == (0.0, 8.0)


def test_a_metric_that_is_not_collected_is_not_known():
    clock = Clock()
    moment = clock.at(tick({1: (1.0, 1.0)}, started=(1,)))

    assert np.isnan(moment.rise(1, replace(WORK, name="cpu.none")))
