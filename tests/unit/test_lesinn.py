"""LESINN: the score against the ensemble it stands for, and the choice of rows."""

import numpy as np
import pytest

from osdetectord.detection.lesinn import choose_rows, outlierness
from osdetectord.errors import ShapeError


def test_score_is_what_an_ensemble_of_random_subsets_tends_to():
    random = np.random.default_rng(3)
    distance = np.abs(random.standard_normal((5, 101))) * np.array([[0.1], [1], [2], [5], [20]])
    similar = 1 / (1 + distance)
    drawn = np.array([similar[:, random.choice(101, 20, replace=False)].max(axis=1) for _ in range(20_000)])

    assert outlierness(distance, subset=20) == pytest.approx(1 / drawn.mean(axis=0), rel=0.01)


def test_a_row_far_from_all_others_scores_highest():
    random = np.random.default_rng(5)
    rows = random.standard_normal((73, 4))
    rows[41] += 9
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2)

    assert outlierness(distance).argmax() == 41


def test_a_subset_as_large_as_the_reference_leaves_the_nearest_row():
    assert outlierness(np.array([[3.0, 1.0, 2.0]]), subset=20) == pytest.approx([2.0])


def test_without_reference_there_is_no_score():
    with pytest.raises(ShapeError, match="at least one row"):
        outlierness(np.empty((3, 0)))


def test_outlying_rows_are_sampled_seldom_and_ordinary_ones_alike():
    random = np.random.default_rng(7)
    score = np.ones(60)
    score[50:] = 4.0

    often = np.mean([choose_rows(score, 24, 4.0, random.random(60)) for _ in range(997)], axis=0)

    assert often[50:].max() < 0.05
    assert np.ptp(often[:50]) < 0.1


def test_without_resistance_every_row_is_as_likely():
    random = np.random.default_rng(11)
    score = np.r_[np.ones(30), np.full(30, 100.0)]

    often = np.mean([choose_rows(score, 24, 0.0, random.random(60)) for _ in range(1999)], axis=0)

    assert often == pytest.approx(np.full(60, 0.4), abs=0.06)


def test_the_same_noise_gives_the_same_choice():
    random = np.random.default_rng(17)
    score, noise = 1 + random.random((3, 60)), random.random(60)

    assert np.array_equal(choose_rows(score, 24, 4.0, noise), choose_rows(score.copy(), 24, 4.0, noise))
    assert choose_rows(score, 24, 4.0, noise).sum(axis=1).tolist() == [24, 24, 24]
