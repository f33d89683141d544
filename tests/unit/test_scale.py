"""Samples are made comparable with the process's own past, whose steps are remembered."""

from __future__ import annotations

import numpy as np
import pytest

from osdetectord.detection.scale import BLOCK_ROWS, BLOCKS, NEW_CLIP, Scale

SLOT = np.array([0])
HOLD = BLOCKS * BLOCK_ROWS
DESCRIPTORS, REQUESTS, ERRORS = 0, 1, 2


def learnt() -> tuple[Scale, np.random.Generator]:
    """Of 61 rows: descriptors that stay, requests that vary, errors that never were."""
    scale, random = Scale(3), np.random.default_rng(11)
    for part in scale.parts():
        part.resize(1)
        part.clear(SLOT)
    scale.learn(SLOT, np.array([[sample(random, 20.0) for _ in range(61)]]))
    return scale, random


def sample(random: np.random.Generator, descriptors: float, errors: float = 0.0) -> np.ndarray:
    return np.array([descriptors, random.lognormal(3.0, 0.2), errors])


def feed(scale: Scale, rows: list[np.ndarray]) -> np.ndarray:
    """Return the z of each row."""
    z = []
    for row in rows:
        x = row[None]
        z.append(scale.z(SLOT, x)[0])
        scale.follow(SLOT, x, np.full(1, 0.005))
    return np.array(z)


def test_a_step_that_holds_becomes_the_reference_and_the_way_back_is_no_news():
    scale, random = learnt()
    up = feed(scale, [sample(random, 60.0) for _ in range(2 * HOLD)])[:, DESCRIPTORS]
    assert up[0] > 6.0
    assert abs(up[-1]) < 1.0
    back = feed(scale, [sample(random, 20.0) for _ in range(2 * HOLD)])[:, DESCRIPTORS]
    assert np.abs(back).max() < 1.0


@pytest.mark.parametrize("before", range(BLOCK_ROWS))
def test_a_step_that_is_seen_half_done_is_one_step(before):
    scale, random = learnt()
    rows = [20.0] * before + [40.0] + [60.0] * (3 * HOLD) + [20.0] * HOLD
    back = feed(scale, [sample(random, descriptors) for descriptors in rows])[-HOLD:, DESCRIPTORS]
    assert np.abs(back).max() < 1.0


def test_a_program_that_starts_again_may_be_where_it_was_before():
    scale, random = learnt()
    for n, descriptors in enumerate((3.0, 4.0, 5.0)):
        x = sample(random, descriptors)[None]
        scale.restart(SLOT, x, np.array([n == 0]))
        scale.follow(SLOT, x, np.full(1, 0.005))
    for descriptors in (5.0, 20.0):
        assert abs(feed(scale, [sample(random, descriptors)])[0, DESCRIPTORS]) < 1.0
    assert feed(scale, [sample(random, 4.0)])[0, DESCRIPTORS] < -4.0


def test_a_third_step_is_news():
    scale, random = learnt()
    feed(scale, [sample(random, 60.0) for _ in range(2 * HOLD)])
    assert feed(scale, [sample(random, 180.0)])[0, DESCRIPTORS] > 6.0


def test_the_range_that_is_expected_is_that_of_the_step_where_a_metric_is():
    scale, random = learnt()
    feed(scale, [sample(random, 60.0) for _ in range(2 * HOLD)])
    for descriptors in (20.0, 60.0):
        low, high = scale.expected(SLOT, sample(random, descriptors)[None])
        assert low[0, DESCRIPTORS] < descriptors < high[0, DESCRIPTORS]


def test_what_varies_is_no_staircase_and_never_becomes_the_reference():
    scale, random = learnt()
    rows = [sample(random, 20.0) * [1.0, 30.0, 1.0] for _ in range(2 * HOLD)]
    assert feed(scale, rows)[-1, REQUESTS] > 4.0


@pytest.mark.parametrize("errors", [1.0, 1000.0])
def test_what_never_was_has_no_size_however_much_it_is(errors):
    scale, random = learnt()
    assert feed(scale, [sample(random, 20.0, errors)])[0, ERRORS] == NEW_CLIP


def test_a_metric_that_trembles_about_its_step_is_a_staircase_too():
    scale, random = Scale(1), np.random.default_rng(13)
    for part in scale.parts():
        part.resize(1)
        part.clear(SLOT)
    scale.learn(SLOT, 4.0 + random.normal(0.0, 1e-3, (1, 61, 1)))
    assert scale["staircase"][0, 0]
