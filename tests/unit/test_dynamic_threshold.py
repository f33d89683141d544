"""The dynamic threshold, held against the published procedure written out step by step."""

import numpy as np
import pytest

from osdetectord.detection.dynamic_threshold import dynamic_threshold


def published(errors):
    """Telemanom's level, by trying every candidate (KDD 2018, section 3.2)."""
    mean, deviation = errors.mean(), errors.std()
    best, best_gain = mean + 12 * deviation, -np.inf
    for z in np.arange(2.5, 12, 0.5):
        level = mean + z * deviation
        above = errors >= level
        if not above.any():
            continue
        rest = errors[~above]
        sequences = int(above[0]) + int((above[1:] & ~above[:-1]).sum())
        drop = (mean - rest.mean()) / mean + (deviation - rest.std()) / deviation
        gain = drop / (sequences**2 + above.sum())
        if gain >= best_gain and sequences <= 5 and above.sum() < len(errors) * 0.5:
            best, best_gain = level, gain
    return best


def pruned(errors, level, new, least_drop=0.13):
    """Whether Telemanom's pruning (section 3.3) lets the anomaly of height ``new`` go."""
    ordinary = errors[errors < level].max()
    return (new - ordinary) / new < least_drop


def history(seed, spikes=()):
    errors = np.abs(np.random.default_rng(seed).gamma(2.0, 0.5, 503))
    for at, height in spikes:
        errors[at : at + 3] = height
    return errors


@pytest.mark.parametrize("seed", range(7))
@pytest.mark.parametrize(
    "spikes", [(), ((100, 9.0),), ((50, 7.0), (300, 30.0)), tuple((k, 8.0) for k in range(0, 500, 20))]
)
def test_a_new_error_stands_out_exactly_when_the_published_procedure_keeps_it(seed, spikes):
    errors = history(seed, spikes)
    level = published(errors)

    threshold = dynamic_threshold(errors[None])[0]

    for new in np.r_[np.linspace(0.1, 60, 997)]:
        if abs(new / threshold - 1) > 1e-9:
            assert (new > threshold) == (new >= level and not pruned(errors, level, new))


def test_one_burst_far_above_the_rest_is_parted_from_it():
    errors = history(11, ((200, 40.0),))

    threshold = dynamic_threshold(errors[None])[0]

    assert np.sort(errors)[-4] < threshold < 40.0


def test_an_error_barely_above_the_largest_ordinary_one_is_pruned():
    errors = np.r_[np.tile([1.0, 1.2], 100), 2.0]

    keen, pruning = dynamic_threshold(errors[None], least_drop=0.0), dynamic_threshold(errors[None], least_drop=0.5)

    assert pruning[0] >= 1.2 / 0.5
    assert keen[0] < pruning[0]


def test_series_do_not_see_each_other():
    several = np.stack([history(1), history(2, ((10, 20.0),)), history(3)])

    together = dynamic_threshold(several)

    assert together.tolist() == [dynamic_threshold(errors[None])[0] for errors in several]


def test_missing_errors_are_left_out():
    errors = history(5, ((100, 9.0),))

    assert dynamic_threshold(np.r_[errors, np.full(97, np.nan)][None]) == dynamic_threshold(errors[None])


def test_without_any_error_nothing_stands_out():
    assert dynamic_threshold(np.full((2, 5), np.nan)).tolist() == [np.inf, np.inf]


def test_errors_that_never_vary_are_the_threshold_but_for_pruning():
    assert dynamic_threshold(np.full((1, 50), 3.0), least_drop=0.25) == pytest.approx([4.0])
    assert dynamic_threshold(np.zeros((1, 50))) == pytest.approx([0.0])
