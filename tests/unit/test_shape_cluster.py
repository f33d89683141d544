"""Shape-based distance and clusters of metrics."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from osdetectord.detection.shape_cluster import cluster, shape_distance


def walk(rows, metrics, seed):
    return np.cumsum(np.random.default_rng(seed).standard_normal((rows, metrics)), axis=0)


def test_scale_offset_and_shift_do_not_change_a_shape():
    burst = np.exp(-(((np.arange(211) - 90) / 6.0) ** 2))
    series = np.column_stack([burst, 1e6 * np.roll(burst, 4) + 17.0])

    assert shape_distance(series)[0, 1] == pytest.approx(0.0, abs=0.02)


def test_a_shift_beyond_the_largest_one_tried_is_another_shape():
    burst = np.exp(-(((np.arange(211) - 60) / 2.0) ** 2))
    series = np.column_stack([burst, np.roll(burst, 40)])

    assert shape_distance(series)[0, 1] < 0.05
    assert shape_distance(series, max_shift=5)[0, 1] > 0.9


def test_distance_is_one_minus_the_largest_normalised_cross_correlation():
    series = walk(37, 2, seed=3)
    x, y = (series - series.mean(axis=0)).T
    direct = np.correlate(x, y, "full").max() / np.linalg.norm(x) / np.linalg.norm(y)

    assert shape_distance(series)[0, 1] == pytest.approx(1 - direct)


def test_distance_is_symmetric_and_bounded():
    distance = shape_distance(walk(101, 13, seed=5))

    assert np.array_equal(distance, distance.T)
    assert not distance.diagonal().any()
    assert 0 <= distance.min() <= distance.max() <= 2


def test_a_constant_metric_is_like_no_other():
    series = np.column_stack([walk(101, 2, seed=7), np.full(101, 42.0), np.zeros(101)])

    distance = shape_distance(series)

    assert distance[2, [0, 1, 3]].tolist() == [1.0, 1.0, 1.0]


def test_groups_are_those_of_average_linkage():
    distance = shape_distance(walk(151, 29, seed=11), max_shift=5)

    ours = cluster(distance, 0.3)

    theirs = fcluster(linkage(squareform(distance), "average"), 0.3, "distance")
    assert 1 < theirs.max() < 29
    assert np.array_equal(ours[:, None] == ours[None], theirs[:, None] == theirs[None])


def test_groups_are_numbered_by_their_first_metric():
    distance = 1.0 - np.kron(np.eye(2), np.ones((2, 2)))[np.ix_([0, 2, 1, 3], [0, 2, 1, 3])]

    assert cluster(distance, 0.3).tolist() == [0, 1, 0, 1]


def test_one_metric_is_one_group():
    assert cluster(shape_distance(walk(31, 1, seed=13))).tolist() == [0]
