"""An episode that goes on is told as it is by now."""

from dataclasses import replace

import numpy as np
import pytest

from osdetectord.anomaly import Episode, Phase
from osdetectord.detection.episodes import TELL_EVERY_ROWS, Episodes, Look
from osdetectord.detection.signature import Catalogue

METRICS = ("memory.rss", "cpu.on_cpu")
MERGE_ROWS = 15


def look(row: int, rss: float, deviation: float, expected: tuple[float, float] = (10.0, 13.0)) -> Look:
    """A row in alarm that blames memory; its score says no more than the first row's."""
    return Look(
        time_ns=row,
        alarm=True,
        score=9.0,
        p_value=1e-6,
        u=np.array([3.0]),
        blame=np.array([0.99, 0.01]),
        deviation=np.array([deviation, 0.0]),
        x=np.array([rss, 0.1]),
        low=np.array([expected[0], 0.0]),
        high=np.array([expected[1], 1.0]),
        left_ns=np.array([1, 0]),
    )


def told(rows: list[Look]) -> list[tuple[Phase, float, float]]:
    episodes, catalogue = Episodes(METRICS, ("level",), MERGE_ROWS), Catalogue()
    said = [episode for row in rows for episode in episodes.look(7, row, catalogue)]
    return [(episode.phase, episode.blames[0].observed, episode.blames[0].high) for episode in said]


def test_what_goes_further_is_told_every_few_rows_though_the_score_does_not_grow():
    said = told([look(row, 17.0 + row, 4.0 + row) for row in range(2 * TELL_EVERY_ROWS + 1)])
    assert [phase for phase, _, _ in said] == [Phase.OPENED, Phase.UPDATED, Phase.UPDATED]
    assert [observed for _, observed, _ in said] == [17.0, 17.0 + TELL_EVERY_ROWS, 17.0 + 2 * TELL_EVERY_ROWS]


def test_what_stays_is_told_once():
    assert told([look(row, 17.0, 4.0) for row in range(50)]) == [(Phase.OPENED, 17.0, 13.0)]


@pytest.mark.parametrize(("way", "least"), [(1, 112.0), (-1, 17.0)])
def test_what_is_expected_may_follow_and_what_went_further_is_told_against_what_was_expected_before(way, least):
    # it goes on by steps, each expected after a while: none is as far out as the first
    steps = [112.0, 60.0, 30.0, 17.0][::-way]
    expected = (10.0, 13.0) if way > 0 else (120.0, 150.0)
    rows = [look(0, steps[0], 5.0 * way, expected)]
    rows += [look(row, steps[row // 15], 3.0 * way, (steps[row // 15] - 1, steps[row // 15])) for row in range(1, 60)]
    assert told(rows)[-1] == (Phase.UPDATED, least, expected[1])


class Turning:
    """Episodes that begin in memory and, where asked, turn to the CPU before they end."""

    def __init__(self) -> None:
        self.episodes, self.catalogue = Episodes(METRICS, ("level",), MERGE_ROWS), Catalogue()
        self._row = 0

    def look(self, rss: float, cpu: float) -> list[Episode]:
        self._row += 1
        row = replace(look(self._row, 17.0, rss), deviation=np.array([rss, cpu]), alarm=bool(rss or cpu))
        return self.episodes.look(7, row, self.catalogue)

    def turn(self) -> None:
        for _ in range(50):
            self.look(0.0, 9.0)

    def end(self) -> None:
        for _ in range(MERGE_ROWS):
            self.look(0.0, 0.0)

    def mark(self, number: int, useful: bool | None) -> None:
        assert self.episodes.mark(number, useful, {7: self.catalogue})


def silenced_and_turned(before: int) -> tuple[Turning, int]:
    """Return episodes, and the number of an open one that was called false and then turned, after others like it."""
    turning = Turning()
    for _ in range(before):
        turning.look(9.0, 0.0)
        turning.end()
    (opened,) = turning.look(9.0, 0.0)
    turning.mark(opened.number, False)
    turning.turn()
    return turning, opened.number


@pytest.mark.parametrize("before", [0, 1])
def test_a_word_on_an_open_episode_is_taken_back_though_it_turned_since(before):
    turning, number = silenced_and_turned(before)
    turning.mark(number, None)
    turning.end()
    (again,) = turning.look(9.0, 0.0)
    assert again.recurrence == before + 1


@pytest.mark.parametrize("before", [0, 1])
def test_a_word_on_an_open_episode_is_taken_back_after_its_end_though_it_turned_since(before):
    turning, number = silenced_and_turned(before)
    turning.end()
    assert turning.look(9.0, 0.0) == []
    turning.end()
    turning.mark(number, None)
    assert [again.recurrence for again in turning.look(9.0, 0.0)] == [before + 2]
