"""What an episode is blamed on: rises before falls, the known before the unheard of, faults before their aftermath."""

from __future__ import annotations

import numpy as np
from test_detection_engine import START, Watched, normal, with_fault

from osdetectord.anomaly import Episode, Phase


def episode(values: np.ndarray, phase: Phase) -> Episode:
    """Return the only episode of this phase."""
    (found,) = (one for one in Watched().feed(values) if one.phase is phase)
    return found


def lead(values: np.ndarray, phase: Phase = Phase.OPENED) -> str:
    return episode(values, phase).blames[0].metric


def test_what_rises_is_blamed_before_what_falls_further():
    values = with_fault(normal(211), START, 30, 3.0, [4])
    assert lead(with_fault(values, START, 30, 0.001, [6, 7])) == "group.m04"


def test_where_everything_falls_a_fall_is_blamed():
    assert lead(with_fault(normal(211), START, 30, 0.05, [6, 7, 8])) in ("group.m06", "group.m07", "group.m08")


def test_what_never_was_before_is_blamed_after_what_has_a_known_range():
    values = with_fault(normal(211), START, 30, 30.0, [5])
    values[:, [1, 2]] = 0.0
    values[START:, [1, 2]] = 3.0
    assert lead(values) == "group.m05"


def test_what_a_fault_leaves_behind_is_not_blamed_when_it_is_over():
    values = with_fault(normal(261), START, 12, 8.0, [3, 8, 10])
    # it rises slowly and stays
    values[:, 0] = 100.0
    values[START:, 0] += np.minimum(np.arange(len(values) - START), 12)
    assert lead(values, Phase.CLOSED) != "group.m00"
