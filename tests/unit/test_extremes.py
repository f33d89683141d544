"""Many metrics that break a record within a few rows say what no single one does."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_driver import WARMUP, drive, fitted, made, row, series

from osdetectord.detection.evidences.extremes import BLOCK_ROWS, Extremes

METRICS = 10


def learnt(**options):
    z = series(WARMUP, METRICS)
    evidence = made(Extremes, METRICS, **options)
    fitted(evidence, z, [0])
    return evidence, z


def test_what_was_seen_before_breaks_no_record():
    evidence, z = learnt()
    assert drive(evidence, z[100:200])[5:].max() == 1.0


@pytest.mark.parametrize("metrics", [1, 4])
def test_each_metric_that_jumps_counts(metrics):
    evidence, z = learnt()
    drive(evidence, z[100:110])
    far = z[110:111].copy()
    far[0, :metrics] += 8.0
    # the change and, smoothed, the place
    share = np.log(drive(evidence, far)[0]) * 0.1
    assert 0.5 * metrics / METRICS <= share <= metrics / METRICS


def test_the_metric_that_broke_its_record_by_more_is_more_to_blame():
    evidence, z = learnt()
    drive(evidence, z[100:110])
    far = z[110].copy()
    far[0], far[1] = 48.0, 24.0
    blame = evidence.blame(row(far, [0]))[0]
    assert blame[0] == pytest.approx(2.0 * blame[1]) and blame[1] > 0.0
    assert not blame[2:].any()


def test_a_broken_record_is_told_for_the_window_and_no_longer():
    evidence, z = learnt(window=3)
    rows = z[100:120].copy()
    rows[10, 0] += 12.0
    loud = drive(evidence, rows) > 1.0
    assert loud[10:13].all()
    assert not loud[:10].any() and not loud[-4:].any()


def test_a_record_stands_only_when_the_rows_after_it_were_normal():
    for rate, again in ((1.0, False), (0.1, True)):
        evidence, z = learnt()
        jump = np.concatenate([z[100 : 100 + BLOCK_ROWS], z[100:110], z[50:51] + 20.0])
        first = jump.copy()
        first[5] += 20.0
        drive(evidence, first[: BLOCK_ROWS + 8], rate=rate)
        calm = drive(evidence, z[100:120])
        assert calm[-1] == 1.0
        assert (drive(evidence, z[105:106] + 20.0)[0] > np.exp(5.0)) == again


def test_rows_of_minutes_are_compared_with_the_same_phase():
    time = np.arange(288 * 6)[:, None]
    random = np.random.default_rng(4)
    z = 6.0 * np.sin(2.0 * np.pi * time / 288.0 + np.arange(METRICS)) + 0.05 * random.standard_normal(
        (len(time), METRICS)
    )
    evidence = made(Extremes, METRICS, interval_s=300.0)
    fitted(evidence, z[: 288 * 5], [0])
    assert evidence["period"][0] == 288
    usual = drive(evidence, z[288 * 5 : 288 * 5 + 100])
    assert usual.max() < np.exp(2.0)
    # what is the level of another hour is in the range of all that was, and yet never was at this one
    moved = z[288 * 5 + 100 : 288 * 5 + 110] + np.linspace(0.0, 3.0, 10)[:, None]
    assert drive(evidence, moved)[-1] > np.exp(3.0)
