"""What a process did before is no news, unless it was a fault."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_driver import WARMUP, fitted, made, row, series

from osdetectord.detection.evidences.memory import BRIEF_ROWS, EXCUSED_ROWS, Memory

APART = 67
ABNORMAL = 1.5
"""Distance from which the engine would slow down learning."""


class Watched:
    """A process that is seen live, whose metrics now and then are somewhere else for some rows."""

    def __init__(self) -> None:
        self._z = series(2401)
        self.memory = made(Memory)
        fitted(self.memory, self._z[:WARMUP], [0])
        self._at = WARMUP
        self._see(APART)

    def _see(self, rows: int, offset: float = 0.0) -> np.ndarray:
        scores = np.empty(rows)
        for t in range(rows):
            now = row(self._z[self._at] + offset * (np.arange(7) < 3), [0])
            scores[t] = self.memory.score(now)[0]
            self.memory.update(now, np.where(scores[t : t + 1] > ABNORMAL, 0.1, 1.0))
            self._at += 1
        return scores

    def away(self, rows: int) -> np.ndarray:
        """Return the scores of so many rows elsewhere; it is back for a while afterwards."""
        scores = self._see(rows, 9.0)
        self._see(APART)
        return scores


def test_a_job_is_news_only_the_first_time():
    process = Watched()
    assert process.away(9).max() > 2 * ABNORMAL
    for _ in range(3):
        assert process.away(9).max() < ABNORMAL


def test_a_job_that_comes_again_takes_no_more_room():
    process = Watched()
    process.away(9)
    first = int(process.memory["briefs"][0])
    for _ in range(5):
        process.away(9)
    assert 0 < first == process.memory["briefs"][0]


@pytest.mark.parametrize("rows", [BRIEF_ROWS + 1, 31])
def test_what_lasts_is_news_each_time(rows):
    process = Watched()
    first = process.away(rows).max()
    assert first > 2 * ABNORMAL
    for _ in range(4):
        assert process.away(rows).max() > 0.6 * first


def test_what_lasts_longer_than_a_job_that_looks_like_it_is_news_each_time():
    process = Watched()
    process.away(9)
    for _ in range(5):
        scores = process.away(EXCUSED_ROWS + 7)
        assert scores[:EXCUSED_ROWS].max() < ABNORMAL
        assert scores[EXCUSED_ROWS + 2 :].min() > 2 * ABNORMAL
