"""When a score becomes an alarm."""

from __future__ import annotations

import numpy as np
import pytest

from osdetectord.detection.threshold import FAST, GROWN_ROWS, HOUR_S, LEAVE_AT, Threshold

SLOT = np.array([0])
HELD = np.array([False])


def threshold(budget: float = 1.0, age: float = GROWN_ROWS, interval_s: float = 1.0) -> Threshold:
    made = Threshold(budget, interval_s)
    for part in made.parts():
        part.resize(1)
        part.clear(SLOT)
    made["age"][SLOT] = age
    return made


def judged(made: Threshold, scores: list[float]) -> list[bool]:
    """Return whether there is an alarm after each of the scores, in levels of a process that has grown up."""
    alarms = []
    for score in scores:
        combined = np.array([score * FAST.level])
        alarms.append(bool(made.judge(SLOT, combined, combined, HELD)[2][0]))
    return alarms


def test_a_loud_score_must_last_three_rows():
    assert judged(threshold(), [0.2, 1.2, 1.2, 1.2, 1.2]) == [False, False, False, True, True]


def test_a_weak_one_must_last_longer():
    alarms = judged(threshold(), [0.85] * 30)
    assert not any(alarms[:6])
    assert alarms[-1]


def test_one_moment_is_no_persistence_however_loud_it_is():
    assert not any(judged(threshold(), [50.0] + [0.7] * 6))


@pytest.mark.parametrize("rows", [100, 7200])
def test_a_score_that_is_weaker_still_is_none(rows):
    assert not any(judged(threshold(), [0.48] * rows))


def test_no_alarm_begins_with_a_score_at_which_it_would_end():
    alarms = judged(threshold(), [LEAVE_AT - 0.03] * 60 + [LEAVE_AT + 0.05] * 10)
    assert not any(alarms[:60])
    assert all(alarms[61:])


def test_an_alarm_ends_after_some_quiet_rows():
    alarms = judged(threshold(), [1.5] * 5 + [0.2] * 6)
    assert alarms[4 + FAST.leave - 1]
    assert not alarms[4 + FAST.leave]


def test_a_smaller_budget_asks_for_more():
    level = [threshold(budget).level(SLOT)[0] for budget in (10.0, 1.0, 0.1)]
    assert level == sorted(level)
    assert level[0] < 0.8 * level[2]


def test_a_process_hardly_known_must_be_louder():
    assert threshold(age=30).level(SLOT)[0] > 1.3 * threshold(age=GROWN_ROWS).level(SLOT)[0]


@pytest.mark.parametrize("interval_s", [1.0, 5.0])
def test_what_was_an_alarm_in_the_first_hour_is_none_after_it(interval_s):
    hour = HOUR_S / interval_s
    young, old = (threshold(age=age, interval_s=interval_s) for age in (GROWN_ROWS, hour))
    loud = [1.1] * 6
    assert any(judged(young, loud))
    assert not any(judged(old, loud))
    assert any(judged(old, [1.1 * (1.0 + FAST.settled)] * 6))


def test_the_level_stays_when_the_hour_is_over():
    assert threshold(age=HOUR_S).level(SLOT) == threshold(age=30 * HOUR_S).level(SLOT)


def test_what_is_held_begins_no_alarm():
    made = threshold()
    combined = np.array([2.0 * FAST.level])
    for _ in range(9):
        assert not made.judge(SLOT, combined, combined, np.array([True]))[2][0]
