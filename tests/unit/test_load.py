"""The load of a process is found, followed and missed."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_driver import made

from osdetectord.detection.evidence import Past, Rows
from osdetectord.detection.evidences.load_drop import LoadDrop
from osdetectord.detection.load import EXPLAINS, Load

SLOT = np.array([0])
ROWS, METRICS = 241, 11
HALF = np.log(2.0)
RATE = np.array([5e-3])


def waves(rows: int, seed: int = 3) -> np.ndarray:
    """A load that wanders by a fifth up and down, in nats."""
    random = np.random.default_rng(seed)
    return 0.2 * np.sin(np.arange(rows) * 2 * np.pi / 97) + random.normal(0.0, 0.05, rows)


def loaded(carriers: int = 7) -> tuple[Load, np.ndarray]:
    """A load that ``carriers`` metrics carry, each moved three spreads by a nat, and the deviations it has learnt."""
    random = np.random.default_rng(5)
    z = random.normal(0.0, 0.3, (ROWS, METRICS))
    z[:, :carriers] += 3.0 * waves(ROWS)[:, None]
    load = Load(METRICS, slow=False)
    load.resize(1)
    load.clear(SLOT)
    load.learn(0, z, np.full(METRICS, 1 / 3))
    return load, z


def deviations(nats: float, carriers: int = 7) -> np.ndarray:
    return np.where(np.arange(METRICS) < carriers, 3.0 * nats, 0.0)[None]


def test_the_load_is_what_the_metrics_that_go_together_say():
    load, _ = loaded()
    assert load.of(SLOT, deviations(0.5))[0] == pytest.approx(0.5, abs=0.12)


def test_one_metric_that_goes_wild_is_no_load():
    load, _ = loaded()
    wild = deviations(0.0)
    wild[0, 2] = 12.0
    assert load.of(SLOT, wild)[0] == pytest.approx(0.0, abs=0.12)


def test_metrics_that_go_each_their_own_way_have_no_load():
    load, _ = loaded(carriers=2)
    assert np.isnan(load.of(SLOT, deviations(0.5, 2))[0])


def test_a_load_of_twice_the_most_is_explained_and_one_of_ten_times_is_not():
    load, _ = loaded()
    at_most = load["high"]
    twice, tenfold = (load.explained(SLOT, at_most + np.log(times))[0, 0] for times in (2.0, 10.0))
    assert twice == pytest.approx(HALF * load["slope"][0, 0])
    assert tenfold == 0.0
    assert load.explained(SLOT, at_most + EXPLAINS)[0, 0] == pytest.approx(EXPLAINS * load["slope"][0, 0])


def test_a_rush_that_came_before_is_explained_and_what_it_left_alone_is_not():
    load, _ = loaded()
    rush = load["high"] + np.log(6.0)
    first = load.explained(SLOT, rush)[0, 0]
    for _ in range(7):
        for _ in range(30):
            load.follow(SLOT, rush, RATE)
        for _ in range(300):
            load.follow(SLOT, load["high"] - 0.5, RATE)
    again, more = (load.explained(SLOT, at)[0, 0] for at in (rush, rush + np.log(10.0)))
    assert again > 1.5 * first
    assert again == pytest.approx((rush - load["high"])[0] * load["slope"][0, 0])
    assert more == pytest.approx((load["most"] - load["high"])[0] * load["slope"][0, 0])


def test_a_load_that_goes_down_slowly_is_expected_to_be_low_and_one_that_falls_is_not():
    load, _ = loaded()
    low = load["low"].copy()
    load.follow(SLOT, low - 2.0, RATE)
    assert load.explained(SLOT, low - 1.0)[0, 0] == 0.0
    for row in range(101):
        load.follow(SLOT, low - 0.01 * row, RATE)
    assert load.explained(SLOT, low - 1.0)[0, 0] == pytest.approx(-load["slope"][0, 0], rel=0.05)


def watched(past: np.ndarray) -> LoadDrop:
    evidence = made(LoadDrop, METRICS)
    z = np.zeros((1, len(past), METRICS))
    scores = evidence.fit(Past(SLOT, z, z, past[None]))
    assert np.isnan(scores).all()
    return evidence


def seen(evidence: LoadDrop, loads: np.ndarray) -> np.ndarray:
    """Return the logarithm of the score of each row: drops in those that are routine; NaN where it is silent."""
    z, found = np.zeros((1, METRICS)), []
    for load in loads:
        rows = Rows(SLOT, z, z, np.array([load]), np.zeros(1, bool))
        found.append(np.log(evidence.score(rows)[0]))
        evidence.update(rows, np.ones(1))
    return np.array(found)


def test_a_load_that_falls_to_a_quarter_is_louder_than_any_before():
    load = waves(ROWS + 101)
    evidence = watched(load[:ROWS])
    before = np.nanmax(seen(evidence, load[ROWS : ROWS + 61]))
    after = np.nanmax(seen(evidence, load[ROWS + 61 :] - 2 * HALF))
    assert after > 2.0 * max(before, 0.5)


def test_a_load_that_takes_minutes_to_fall_as_far_is_ordinary():
    evidence = watched(waves(ROWS))
    slowly = waves(361, seed=7) - np.minimum(np.arange(361) / 300.0, 1.0) * 2 * HALF
    assert np.nanmax(seen(evidence, slowly)) < 2.0


def test_the_end_of_a_short_rush_is_no_drop():
    evidence = watched(waves(ROWS))
    rush = np.concatenate([waves(31, seed=7) + 1.1, waves(61, seed=8)])
    assert np.nanmax(seen(evidence, rush)) < 2.5


def test_a_load_that_uses_to_come_and_go_may_do_so():
    pulses = np.where(np.arange(ROWS + 101) % 37 < 18, 0.0, -1.5)
    evidence = watched(pulses[:ROWS])
    assert np.nanmax(seen(evidence, pulses[ROWS:])) < 2.0


def test_without_a_load_it_is_silent():
    evidence = watched(np.full(ROWS, np.nan))
    assert np.isnan(seen(evidence, np.full(11, np.nan))).all()
