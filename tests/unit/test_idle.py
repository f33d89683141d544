"""A process that does nothing is watched as quietly as one that works."""

from __future__ import annotations

import numpy as np
import pytest

from osdetectord import offline
from osdetectord.detection.settings import Settings

ROWS, METRICS, START = 261, 73, 151
ANON, RSS, THREADS, WAITS, WAKES, READS = range(6)


def judged(values: np.ndarray) -> offline.Outcome:
    names = tuple(f"m{m:02d}" for m in range(METRICS))
    table = offline.Table("idle", tuple(map(str, range(ROWS))), names, values)
    return offline.detect([table], Settings(), 1.0)[0]


def asleep() -> np.ndarray:
    """Rows of a process that holds memory, waits in one thread, and is woken now and then."""
    values = np.zeros((ROWS, METRICS))
    values[:, [ANON, RSS, THREADS, WAITS]] = (160e3, 4e6, 1.0, 1.0)
    values[::41, WAKES] = 1.0
    return values


@pytest.mark.parametrize("grows", [1.0, 1.02, 1.04])
def test_it_may_do_a_little_once_and_keep_a_page(grows):
    values = asleep()
    values[START, READS] = 2.0
    values[START:, ANON] *= grows
    assert not judged(values).alarm.any()


def test_it_may_not_grow_by_a_third_and_is_calm_when_it_stays_so():
    values = asleep()
    values[START:, [ANON, RSS]] *= 1.33
    alarm = judged(values).alarm
    assert alarm[START : START + 5].any()
    assert not alarm[START + 60 :].any()
