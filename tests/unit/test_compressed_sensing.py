"""The compressed sensing evidence: what it sees, and what must not disturb it."""

import numpy as np
import pytest
from evidence_driver import WARMUP, drive, fitted, made, row, series

from osdetectord.detection.evidences.compressed_sensing import CompressedSensing

FAULT = slice(100, 130)


def test_a_shift_of_all_metrics_scores_far_above_everything_before_it():
    z = series(WARMUP + 200)
    z[WARMUP + FAULT.start : WARMUP + FAULT.stop] += 5.0
    evidence = made(CompressedSensing)
    fitted(evidence, z[:WARMUP], [0])

    scores = drive(evidence, z[WARMUP:])

    assert scores[FAULT.start + 2] > 2 * scores[: FAULT.start].max()


def test_a_fault_of_half_a_minute_does_not_become_what_is_expected():
    z = series(WARMUP + 200)
    z[WARMUP + FAULT.start : WARMUP + FAULT.stop] += 5.0
    evidence = made(CompressedSensing)
    fitted(evidence, z[:WARMUP], [0])

    scores = drive(evidence, z[WARMUP:])

    assert scores[FAULT.stop - 5 : FAULT.stop].min() > 0.7 * scores[FAULT].max()


def test_the_same_fault_is_soon_expected_where_outlying_rows_are_sampled_like_others():
    z = series(WARMUP + 200)
    z[WARMUP + FAULT.start : WARMUP + FAULT.stop] += 5.0
    late = slice(FAULT.stop - 5, FAULT.stop)
    sampled = {}
    for resistance in (0.0, 4.0):
        evidence = made(CompressedSensing, resistance=resistance, every=5)
        fitted(evidence, z[:WARMUP], [0])
        sampled[resistance] = drive(evidence, z[WARMUP:])[late].min()

    assert sampled[0.0] < 0.7 * sampled[4.0]


def test_blame_points_at_the_metric_that_moved():
    z = series(WARMUP + 60)
    z[WARMUP + 40 :, 4] += 8.0
    evidence = made(CompressedSensing)
    fitted(evidence, z[:WARMUP], [0])
    drive(evidence, z[WARMUP : WARMUP + 45])

    assert evidence.blame(row(z[WARMUP + 45], [0]))[0].argmax() == 4


def test_fit_scores_the_second_half_of_the_past():
    scores = fitted(made(CompressedSensing), series(WARMUP), [0])

    assert np.isnan(scores[0, : WARMUP // 2]).all()
    assert np.isfinite(scores[0, WARMUP // 2 :]).all()


def test_the_future_does_not_change_a_score():
    z = series(WARMUP + 97)
    other = z.copy()
    other[WARMUP + 53 :] = 12.0
    scores = []
    for rows in (z, other):
        evidence = made(CompressedSensing)
        fitted(evidence, rows[:WARMUP], [0])
        scores.append(drive(evidence, rows[WARMUP:]))

    assert np.array_equal(scores[0][:53], scores[1][:53])


def test_score_changes_nothing():
    z = series(WARMUP + 1)
    evidence = made(CompressedSensing)
    fitted(evidence, z[:WARMUP], [0])
    before = evidence.state(0)

    evidence.score(row(z[-1], [0]))

    for name, array in evidence.state(0).items():
        assert np.array_equal(array, before[name], equal_nan=True)


def test_neighbours_do_not_change_a_score():
    z, others = series(WARMUP + 61), series(WARMUP + 61, seed=23)
    alone = made(CompressedSensing)
    fitted(alone, z[:WARMUP], [0])
    expected = drive(alone, z[WARMUP:])
    together = made(CompressedSensing, capacity=3)
    fitted(together, others[:WARMUP], [0, 1])
    fitted(together, z[:WARMUP], [2])

    scores = []
    for now, other in zip(z[WARMUP:], others[WARMUP:], strict=True):
        rows = row(np.stack([other, now]), [0, 2])
        scores.append(together.score(rows)[1])
        together.update(rows, np.ones(2))

    assert np.array_equal(scores, expected)


def test_a_restored_state_goes_on_as_if_nothing_had_happened():
    z = series(WARMUP + 90)
    evidence = made(CompressedSensing)
    fitted(evidence, z[:WARMUP], [0])
    drive(evidence, z[WARMUP : WARMUP + 43])
    restored = made(CompressedSensing, capacity=2)
    restored.restore(1, evidence.state(0))

    rest = z[WARMUP + 43 :]
    assert np.array_equal(drive(restored, rest, slot=1), drive(evidence, rest))


def test_after_a_gap_the_window_starts_anew_and_what_was_learnt_stays():
    z = series(WARMUP + 90)
    evidence = made(CompressedSensing)
    fitted(evidence, z[:WARMUP], [0])
    usual = drive(evidence, z[WARMUP : WARMUP + 50]).max()
    reference = evidence["reference"][0].copy()
    evidence.update(row(z[WARMUP + 50], [0], fresh=True), np.ones(1))

    scores = drive(evidence, z[WARMUP + 51 :])

    assert scores.max() < 1.5 * usual
    assert np.array_equal(evidence["reference"][0], reference)


def test_nothing_is_said_before_anything_was_learnt():
    assert not drive(made(CompressedSensing), series(199)).any()


@pytest.mark.parametrize("metrics", [1, 2, 45])
def test_constant_extreme_and_few_rows_give_finite_scores(metrics):
    evidence = made(CompressedSensing, metrics=metrics, patterns=2)
    past = np.zeros((61, metrics))
    past[::2, 0] = 12.0
    fit = fitted(evidence, past, [0])

    scores = drive(evidence, np.where(np.arange(70)[:, None] % 7, 0.0, -12.0) * np.ones(metrics))

    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    assert np.isfinite(fit[0, 30:]).all()


def test_rows_of_minutes_find_a_new_normal_within_a_window():
    z = series(WARMUP + 200)
    z[WARMUP + 50 :] += 4.0
    evidence = made(CompressedSensing, interval_s=300.0)
    fitted(evidence, z[:WARMUP], [0])

    scores = drive(evidence, z[WARMUP:])

    assert scores[52:56].mean() > 3 * scores[150:].mean()
