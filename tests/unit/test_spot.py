"""SPOT finds the threshold of a known tail, and follows a stream."""

from __future__ import annotations

import numpy as np
import pytest

from osdetectord.detection.spot import Spot, fit_tail


def test_the_tail_of_an_exponential_is_found():
    shape, scale = fit_tail(np.random.default_rng(7).exponential(3.0, 4999))
    assert shape == pytest.approx(0.0, abs=0.1)
    assert scale == pytest.approx(3.0, rel=0.1)


def test_the_threshold_is_where_the_risk_says():
    spot = Spot(risk=1e-3)
    spot.start(np.random.default_rng(11).exponential(1.0, 9973))
    # an exponential exceeds ln(1000) once in a thousand rows
    assert spot.threshold == pytest.approx(np.log(1000.0), rel=0.15)


def test_an_alarm_teaches_nothing_and_a_peak_does():
    spot = Spot(risk=1e-3)
    spot.start(np.random.default_rng(13).exponential(1.0, 997))
    before = spot.threshold
    assert spot.step(100.0) and spot.threshold == before
    assert not spot.step(0.99 * before) and spot.threshold > before


def test_a_drift_is_followed_only_with_a_moving_average():
    rng = np.random.default_rng(17)
    plain, drifting = Spot(risk=1e-4), Spot(risk=1e-4, depth=20)
    start = rng.exponential(0.3, 499)
    plain.start(start)
    drifting.start(start)
    stream = np.linspace(0.0, 30.0, 2003) + rng.exponential(0.3, 2003)
    raised = sum(drifting.step(float(score)) for score in stream)
    for score in stream:
        plain.step(float(score))
    assert raised < 20
    assert drifting.threshold < 6.0 < 20.0 < plain.threshold
