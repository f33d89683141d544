"""Thinning makes rows fewer and keeps means and extremes."""

import numpy as np

from osdetectord.thinning import at_most, runs, thinned

NAN = np.nan


def test_samples_become_mean_lowest_and_highest_of_each_run():
    samples = np.array([[[1.0, 5.0]], [[3.0, NAN]], [[10.0, NAN]]], np.float32)
    np.testing.assert_array_equal(
        thinned(samples, np.ones(3), np.array([0, 2])),
        [[[2.0, 5.0], [1.0, 5.0], [3.0, 5.0]], [[10.0, NAN], [10.0, NAN], [10.0, NAN]]],
    )


def test_a_spike_of_one_second_survives_every_thinning():
    samples = np.zeros((3600, 1, 1), np.float32)
    samples[997] = 101.0
    tens = thinned(samples, np.ones(3600), np.arange(0, 3600, 10))
    minutes = thinned(tens, np.ones(360), np.arange(0, 360, 6))
    np.testing.assert_allclose(minutes[997 // 60, :, 0], [101 / 60, 0.0, 101.0], rtol=1e-6)


def test_a_row_counts_as_long_as_it_stands_for():
    rows = np.array([[[2.0], [1.0], [4.0]], [[8.0], [8.0], [8.0]]], np.float32)
    assert thinned(rows, np.array([10.0, 50.0]), np.array([0])).ravel().tolist() == [7.0, 1.0, 8.0]


def test_an_expected_range_becomes_the_mean_of_both_ends():
    band = np.array([[[1.0], [3.0]], [[2.0], [7.0]]], np.float32)
    assert thinned(band, np.ones(2), np.array([0])).tolist() == [[[1.5], [5.0]]]


def test_runs_begin_where_a_key_changes():
    assert runs(np.array([7, 7, 3, 3, 3, 7])).tolist() == [0, 2, 5]
    assert runs(np.array([7])).tolist() == [0]


def test_no_more_runs_than_asked_however_the_times_lie():
    for points in (1, 2, 13, 100):
        for times in (np.arange(997), np.array([0, 1, 2, 996]), np.array([5])):
            starts = at_most(times, points, (int(times[0]), int(times[-1])))
            assert starts[0] == 0 and len(starts) <= points
