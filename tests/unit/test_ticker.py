"""The collector's thread keeps its grid, whatever a tick or the loop does."""

import asyncio
import time

from structlog.testing import capture_logs

from osdetectord import ticker
from osdetectord.ticker import Ticker


class Source:
    def __init__(self, tick=lambda n: None):
        self.times, self._tick = [], tick

    def tick(self, now_ns):
        self.times.append(now_ns)
        self._tick(len(self.times))
        return len(self.times)


def run(source, interval_s, done, deliver=lambda tick: None):
    """Tick until a condition on the ticker holds."""

    async def scenario():
        one = Ticker(source, interval_s, deliver)
        one.start()
        await until(lambda: done(one))
        one.stop()
        return one

    return asyncio.run(scenario())


async def until(condition):
    for _ in range(3000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("not within 30 s")


def test_ticks_come_on_a_grid_and_reach_the_loop_in_order():
    source, got = Source(), []
    run(source, 0.02, lambda one: len(got) >= 5, got.append)
    assert got == list(range(1, len(got) + 1))
    steps = [b - a for a, b in zip(source.times, source.times[1:], strict=False)]
    assert sum(steps) / len(steps) >= 0.0199e9


def fail_for_a_while(number):
    if number in (2, 3, 4):
        raise RuntimeError("broken collector")


def test_a_tick_that_fails_is_not_the_last_one_and_is_said_once():
    source, got = Source(fail_for_a_while), []
    with capture_logs() as logs:
        run(source, 0.01, lambda one: len(got) >= 3, got.append)
    assert not {2, 3, 4}.intersection(got)
    assert [entry["log_level"] for entry in logs] == ["error", "info"]


def test_ticks_that_cannot_be_taken_in_are_said_once_and_once_when_they_are_again():
    source = Source()
    with capture_logs() as logs:
        run(source, 0.01, lambda one: len(source.times) >= 7, fail_for_a_while)
    assert [entry["log_level"] for entry in logs] == ["error", "info"]


def test_points_that_a_slow_tick_runs_over_are_left_out_and_counted():
    source = Source(lambda number: time.sleep(0.055 if number == 1 else 0))
    one = run(source, 0.02, lambda one: len(source.times) >= 3)
    assert one.skipped >= 2


def test_a_loop_that_does_not_take_ticks_stops_new_ones(monkeypatch):
    monkeypatch.setattr(ticker, "MAX_PENDING", 2)
    source = Source()

    async def scenario():
        one = Ticker(source, 0.01, lambda tick: None)
        one.start()
        hung_until = time.monotonic() + 30
        while not one.skipped and time.monotonic() < hung_until:
            time.sleep(0.05)  # the loop hangs
        held = len(source.times)
        await until(lambda: len(source.times) > held)
        one.stop()
        return one, held

    one, held = asyncio.run(scenario())
    assert held == 2 and one.skipped > 0
