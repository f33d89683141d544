"""What is common to most processes is not held against one."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.commotion import Commotion
from osdetectord.detection.evidence import Rows

SERIES = 7


def common_after(quiet_rows: int, combined: list[float]) -> np.ndarray:
    commotion = Commotion()
    commotion.resize(SERIES)
    slots = np.arange(SERIES)
    rows = [
        Rows(slots, np.zeros((SERIES, 2)), np.zeros((SERIES, 2)), np.full(SERIES, np.nan), np.zeros(SERIES, bool))
    ] * (quiet_rows + 1)
    for row in rows[:-1]:
        commotion.common(row, np.full(SERIES, 0.1))
    return commotion.common(rows[-1], np.array(combined))


def test_what_most_rise_by_at_once_is_common():
    common = common_after(13, [5.0, 5.0, 5.0, 5.0, 5.0, 0.1, 0.1])
    assert (common[:5] > 4.0).all()


def test_the_rise_of_one_is_its_own():
    assert (common_after(13, [5.0, *[0.1] * (SERIES - 1)]) == 0.0).all()


def test_one_that_rises_beyond_the_others_keeps_the_rest():
    common = common_after(13, [9.0, *[4.0] * (SERIES - 1)])
    assert common[0] < 4.0


def test_faults_that_began_earlier_are_not_common_now():
    commotion = Commotion()
    commotion.resize(SERIES)
    row = Rows(
        np.arange(SERIES), np.zeros((SERIES, 2)), np.zeros((SERIES, 2)), np.full(SERIES, np.nan), np.zeros(SERIES, bool)
    )
    for _ in range(13):
        commotion.common(row, np.array([0.1] * 3 + [5.0] * 4))
    assert commotion.common(row, np.array([5.0, 0.1, 0.1] + [5.0] * 4))[0] == 0.0


def test_too_few_others_say_nothing():
    commotion = Commotion()
    commotion.resize(2)
    row = Rows(np.arange(2), np.zeros((2, 2)), np.zeros((2, 2)), np.full(2, np.nan), np.zeros(2, bool))
    for _ in range(13):
        commotion.common(row, np.full(2, 0.1))
    assert (commotion.common(row, np.full(2, 9.0)) == 0.0).all()
