"""Evidences are combined, and what counts for an alarm is told apart from what only ranks."""

from __future__ import annotations

import numpy as np
import pytest

from osdetectord.detection.fusion import ADDS, ADDS_SLOW, Fusion

NAMES = ("memory", "sparse", "innovation", "seasonal", "load_drop")
NAN = float("nan")


def fused(*u: float, names: tuple[str, ...] = NAMES, slow: bool = False) -> tuple[float, float]:
    combined, telling = Fusion(names, slow).combine(np.array([u]))
    return float(combined[0]), float(telling[0])


def test_what_the_memory_knows_is_loud_and_tells_nothing():
    combined, telling = fused(0.0, 9.0, 9.0, 9.0, NAN)
    assert combined > 3.0
    assert telling == 0.0


def test_a_memory_that_has_nothing_to_say_yet_excuses_nothing():
    combined, telling = fused(NAN, 9.0, 9.0, NAN, NAN)
    assert combined == telling == pytest.approx(9.0)


def test_a_drop_of_the_load_counts_only_where_it_is_the_loudest():
    quiet, _ = fused(1.0, 1.0, 1.0, 1.0, NAN)
    assert fused(1.0, 1.0, 1.0, 1.0, 0.5)[0] == quiet
    combined, telling = fused(1.0, 1.0, 1.0, 1.0, 7.0)
    assert combined == telling == pytest.approx(4.0)


def test_a_drop_of_the_load_alone_has_a_score():
    assert fused(6.0, names=("load_drop",))[0] == pytest.approx(3.0)


@pytest.mark.parametrize("slow", [False, True])
def test_broken_records_come_on_top(slow):
    names = (*NAMES, "extremes")
    plain, loud = (fused(2.0, 1.0, 1.0, 1.0, NAN, records, names=names, slow=slow) for records in (0.0, 2.0))
    adds = ADDS_SLOW if slow else ADDS
    assert loud[0] == pytest.approx(plain[0] + 2.0 * adds)
    assert loud[1] > plain[1]


def test_broken_records_are_no_news_where_the_memory_knows_the_state():
    assert fused(0.0, 1.0, 1.0, 1.0, NAN, 9.0, names=(*NAMES, "extremes"))[1] == 0.0


def test_nobody_who_speaks_says_nothing():
    assert fused(NAN, NAN, NAN, NAN, NAN) == (0.0, 0.0)


def test_over_rows_of_minutes_the_days_rank_and_what_changes_alarms():
    combined, telling = fused(0.0, 0.0, 0.0, 8.0, NAN, slow=True)
    assert combined > 3.0
    assert telling == 0.0
    assert fused(8.0, 0.0, 8.0, 0.0, NAN, slow=True)[1] == pytest.approx(6.0)
