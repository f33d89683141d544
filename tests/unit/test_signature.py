"""What is known of a program's episodes stays within bounds, and what the user judged stays longest."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.signature import MOST_KNOWN, Catalogue

WIDTH = MOST_KNOWN + 7


def alone(metric: int) -> np.ndarray:
    """The signature of an episode that moved one metric."""
    return np.where(np.arange(WIDTH) == metric, 5.0, 0.0)


def test_what_was_seen_least_makes_room_and_what_was_judged_does_not():
    catalogue = Catalogue()
    for metric in (0, 0, 1):
        catalogue.note(alone(metric))
    catalogue.find(alone(1)).word = -1
    for metric in range(2, WIDTH):
        catalogue.note(alone(metric))
    assert len(catalogue.known) == MOST_KNOWN
    assert catalogue.find(alone(0)).count == 2 and catalogue.silenced(alone(1))
    assert catalogue.find(alone(2)) is None and catalogue.find(alone(WIDTH - 1)) is not None


def test_what_is_new_stays_though_all_others_are_judged_and_were_seen_more_often():
    catalogue = Catalogue()
    for metric in (*range(MOST_KNOWN), 0, *range(2, MOST_KNOWN)):
        catalogue.note(alone(metric)).word = 1
    catalogue.note(alone(MOST_KNOWN)).word = -1
    assert len(catalogue.known) == MOST_KNOWN
    assert catalogue.silenced(alone(MOST_KNOWN)) and catalogue.find(alone(1)) is None
