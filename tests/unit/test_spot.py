"""SPOT finds the threshold of a known tail and follows a stream, for many series at once."""

from __future__ import annotations

import numpy as np
import pytest

from osdetectord.detection.spot import START_ROWS, Spot, fit_tails
from osdetectord.detection.spot_threshold import SpotThreshold
from osdetectord.detection.threshold import FAST

SLOT = np.arange(1)
DAY = 86400


def made(risk: float, series: int = 1, depth: int = 0) -> Spot:
    spot = Spot(risk, depth)
    spot.resize(series)
    return spot


def run(spot: Spot, stream: np.ndarray) -> np.ndarray:
    """Feed scores of shape ``(rows, series)``; return which exceeded the threshold."""
    slots, raised = np.arange(stream.shape[1]), np.zeros(stream.shape, bool)
    for t, scores in enumerate(stream):
        threshold = spot.threshold(slots)
        raised[t] = scores > threshold
        spot.learn(slots, np.where(raised[t], threshold, scores), raised[t])
    return raised


def test_tails_of_a_known_shape_are_found_whatever_is_missing():
    random = np.random.default_rng(7)
    uniform = random.uniform(size=4999)
    samples = np.stack([random.exponential(3.0, 4999), 2.0 * (uniform**-0.4 - 1.0) / 0.4])
    samples[1, ::3] = np.nan
    shape, scale = fit_tails(samples, np.zeros(samples.shape, bool))
    assert shape == pytest.approx([0.0, 0.4], abs=0.1)
    assert scale == pytest.approx([3.0, 2.0], rel=0.1)


def test_what_is_above_a_bound_counts_as_that():
    samples = np.random.default_rng(8).exponential(3.0, (1, 4999))
    shape, scale = fit_tails(np.minimum(samples, 6.0), samples > 6.0)
    assert shape == pytest.approx([0.0], abs=0.1)
    assert scale == pytest.approx([3.0], rel=0.1)


def test_a_series_gets_the_same_tail_in_any_company():
    samples = np.random.default_rng(9).exponential(1.0, (5, 97))
    censored = samples > 2.0
    alone = [fit_tails(samples[k : k + 1], censored[k : k + 1]) for k in range(5)]
    shape, scale = fit_tails(samples, censored)
    assert shape.tolist() == [float(one[0][0]) for one in alone]
    assert scale.tolist() == [float(one[1][0]) for one in alone]


def test_there_is_no_threshold_until_the_initial_batch_is_full():
    spot = made(1e-3)
    scores = np.random.default_rng(3).exponential(1.0, START_ROWS)
    for n, score in enumerate(scores):
        assert np.isnan(spot.threshold(SLOT)[0]), n
        spot.learn(SLOT, np.array([score]), np.zeros(1, bool))
    assert np.quantile(scores, 0.98) < spot.threshold(SLOT)[0] < 20.0


def test_the_threshold_is_where_the_risk_says():
    spot = made(1e-3, series=31)
    run(spot, np.random.default_rng(11).exponential(1.0, (9973, 31)))
    # an exponential exceeds ln(1000) once in a thousand rows
    assert np.median(spot.threshold(np.arange(31))) == pytest.approx(np.log(1000.0), rel=0.1)


def test_as_much_is_raised_as_is_risked():
    raised = run(made(1e-3, series=31), np.random.default_rng(13).exponential(1.0, (9973, 31)))
    assert raised[START_ROWS:].mean() == pytest.approx(1e-3, rel=0.5)


def test_a_peak_raises_the_threshold():
    spot = made(1e-3)
    run(spot, np.random.default_rng(17).exponential(1.0, (997, 1)))
    before = spot.threshold(SLOT)[0]
    spot.learn(SLOT, np.array([0.99 * before]), np.zeros(1, bool))
    assert spot.threshold(SLOT)[0] > before


def test_scores_that_are_always_the_same_have_themselves_as_threshold():
    spot = made(1e-3)
    run(spot, np.full((START_ROWS + 101, 1), 0.25))
    assert spot.threshold(SLOT)[0] == pytest.approx(0.25)


def test_close_above_a_drift_is_only_what_has_a_moving_average():
    random = np.random.default_rng(19)
    stream = random.exponential(0.3, (START_ROWS + 6007, 1))
    stream[START_ROWS:, 0] += np.linspace(0.0, 30.0, 6007)
    plain, drifting = made(1e-4), made(1e-4, depth=20)
    assert run(plain, stream).sum() < 20 and run(drifting, stream).sum() < 20
    assert 31.0 < drifting.threshold(SLOT)[0] < 36.0 < 60.0 < plain.threshold(SLOT)[0]


def test_a_restored_state_goes_on_as_if_nothing_had_happened():
    random = np.random.default_rng(23)
    stream = random.exponential(1.0, (START_ROWS + 307, 2))
    spot = made(1e-3, series=2, depth=20)
    run(spot, stream)
    other = made(1e-3, depth=20)
    other.restore(0, spot.state(1))
    later = random.exponential(1.0, (211, 2))
    run(spot, later)
    run(other, later[:, 1:])
    assert other.threshold(SLOT)[0] == spot.threshold(np.arange(2))[1]


@pytest.mark.parametrize("drifts", [False, True])
def test_noise_raises_as_many_alarms_as_the_budget_has(drifts):
    budget, series, rows = 48.0, 67, 3607
    threshold = SpotThreshold(budget, 1.0, drifts)
    slots, alarms = np.arange(series), 0
    for part in threshold.parts():
        part.resize(series)
    random = np.random.default_rng(29)
    quiet = np.zeros(series)
    before = np.zeros(series, bool)
    for _ in range(rows):
        combined = FAST.level * random.exponential(0.07, series)
        _, _, alarm = threshold.judge(slots, combined, combined, quiet > 0.0)
        alarms += int((alarm & ~before).sum())
        before = alarm
    expected = budget * series * rows / DAY
    assert 0.5 * expected < alarms < 1.5 * expected


def test_the_level_stays_close_above_scores_that_drift_only_with_a_moving_average():
    levels = []
    for drifts in (False, True):
        threshold = SpotThreshold(1.0, 1.0, drifts)
        for part in threshold.parts():
            part.resize(1)
        random = np.random.default_rng(31)
        for t in range(START_ROWS + 3001):
            combined = FAST.level * (random.exponential(0.05, 1) + 1.2 * max(0, t - START_ROWS) / 3001)
            threshold.judge(SLOT, combined, combined, np.zeros(1, bool))
        levels.append(threshold.level(SLOT)[0])
    assert 1.3 < levels[1] < 2.2 < levels[0]
