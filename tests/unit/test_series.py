import numpy as np
import pytest

from osdetectord.errors import InvalidArgument, ShapeError
from osdetectord.metric import Kind, Metric
from osdetectord.series import Grid, Rates, rows_of

CALLS = Metric("a.calls", "calls", Kind.COUNTER)
LEVEL = Metric("a.level", "bytes", Kind.GAUGE)
REST = Metric("a.rest", "s", Kind.COUNTER)
SECOND = 1_000_000_000


def series(*numbers):
    return np.array(numbers, dtype=np.uint64)


def test_rows_are_matched_by_key_in_any_order():
    found, at = rows_of(np.array([7, 3, 5]), np.array([5, 4, 7, 9, 1]))

    assert found.tolist() == [0, 2]
    assert at.tolist() == [2, 0]


@pytest.mark.parametrize(("keys", "wanted"), [([], [1]), ([1], []), ([], [])])
def test_nothing_matches_nothing(keys, wanted):
    found, at = rows_of(np.array(keys, dtype=np.uint64), np.array(wanted, dtype=np.uint64))

    assert (len(found), len(at)) == (0, 0)


def test_a_counter_becomes_its_rise_per_second_and_a_gauge_stays():
    rates = Rates((CALLS, LEVEL))
    first = rates.sample(SECOND, series(4), np.array([[100.0, 7.0]]))
    second = rates.sample(3 * SECOND, series(4), np.array([[107.0, 5.0]]))

    assert np.isnan(first[0, 0]) and first[0, 1] == 7
    assert second.tolist() == [[3.5, 5.0]]


def test_a_counter_that_falls_is_missing_not_negative():
    rates = Rates((CALLS,))
    rates.sample(SECOND, series(4), np.array([[100.0]]))

    assert np.isnan(rates.sample(2 * SECOND, series(4), np.array([[99.0]]))[0, 0])
    assert rates.sample(3 * SECOND, series(4), np.array([[100.0]]))[0, 0] == 1


def test_a_difference_that_falls_does_not_rise():
    rates = Rates((REST,), differences=(REST,))
    rates.sample(SECOND, series(4), np.array([[10.0]]))
    fell = rates.sample(2 * SECOND, series(4), np.array([[9.5]]))
    rose = rates.sample(3 * SECOND, series(4), np.array([[11.0]]))

    assert (fell[0, 0], rose[0, 0]) == (0, 1)


def test_a_difference_that_was_missing_once_is_known_again():
    rates = Rates((REST,), differences=(REST,))
    totals = (1.0, np.nan, 5.0, 7.0, 6.0)
    said = [rates.sample(t * SECOND, series(4), np.array([[total]]))[0, 0] for t, total in enumerate(totals, start=1)]

    np.testing.assert_array_equal(said, [np.nan, np.nan, np.nan, 2, 0])


def test_each_series_is_compared_with_itself_whatever_its_row():
    rates = Rates((CALLS,))
    rates.sample(SECOND, series(1, 2), np.array([[10.0], [20.0]]))
    out = rates.sample(2 * SECOND, series(3, 2, 1), np.array([[5.0], [21.0], [17.0]]))

    assert np.isnan(out[0, 0])
    assert out[1:, 0].tolist() == [1, 7]


def test_a_series_that_was_away_starts_anew():
    rates = Rates((CALLS,))
    rates.sample(SECOND, series(1), np.array([[10.0]]))
    rates.sample(2 * SECOND, series(), np.zeros((0, 1)))

    assert np.isnan(rates.sample(3 * SECOND, series(1), np.array([[11.0]]))[0, 0])


def test_readings_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"readings are \(1, 3\) for 1 series and 2 metrics"):
        Rates((CALLS, LEVEL)).sample(SECOND, series(1), np.zeros((1, 3)))


def test_an_overslept_grid_point_is_left_out():
    grid = Grid(250_000_000)

    assert grid.next_after(0) == 250_000_000
    assert grid.next_after(250_000_000) == 500_000_000
    assert grid.next_after(1_999_999_999) == 2_000_000_000


def test_a_grid_finer_than_a_millisecond_is_refused():
    with pytest.raises(InvalidArgument, match="999999 ns is below 1 ms"):
        Grid(999_999)
