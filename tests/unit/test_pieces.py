"""Work in pieces leaves nothing out, and the n-th smallest is that of a sorted row."""

from __future__ import annotations

import numpy as np
import pytest

from osdetectord.detection.pieces import PIECE, nth_smallest, pieces


@pytest.mark.parametrize("count", [0, 1, 997])
@pytest.mark.parametrize("size", [1, PIECE // 101, 3 * PIECE])
def test_pieces_are_everything_once_and_in_order(count, size):
    everything = np.arange(count)
    parts = [everything[part] for part in pieces(count, size)]
    assert all(1 <= len(part) <= max(1, PIECE // size) for part in parts)
    np.testing.assert_array_equal(np.concatenate([everything[:0], *parts]), everything)


def test_the_third_smallest_is_that_of_the_sorted_row():
    values = np.random.default_rng(3).integers(0, 97, (499, 13)).astype(np.float32)
    values[7, 2:], values[11] = np.inf, np.inf
    np.testing.assert_array_equal(nth_smallest(values.copy(), 3), np.sort(values, axis=1)[:, 2])
