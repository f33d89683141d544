"""Window PCA: the score is that of the very residual that is blamed."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_driver import WARMUP, fitted, made, row, series

from osdetectord.detection.evidences.window_pca import WindowPca


def test_the_score_is_the_size_of_what_is_blamed():
    z = series(WARMUP + 31)
    evidence = made(WindowPca)
    fitted(evidence, z[:WARMUP], [0])
    for now in z[WARMUP:]:
        rows = row(np.clip(now * 3.0, -12.0, 12.0), [0])
        energy = evidence.blame(rows).sum() / (5 * evidence["live"][0])
        assert evidence.score(rows)[0] == pytest.approx(np.sqrt(energy), rel=1e-4)
        evidence.update(rows, np.ones(1))


def test_after_a_gap_nothing_is_said_until_a_window_is_full():
    z = series(WARMUP + 6)
    evidence = made(WindowPca)
    fitted(evidence, z[:WARMUP], [0])
    said = []
    for n, now in enumerate(z[WARMUP:]):
        rows = row(now, [0], fresh=n == 0)
        said.append(bool(evidence.score(rows)[0] > 0.0))
        evidence.update(rows, np.ones(1))
    assert said == [False] * 4 + [True] * 2
