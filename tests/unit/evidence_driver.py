"""Series made by hand, and an evidence driven over them as the engine drives it."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.evidence import Evidence, Past, Rows, Setup

WARMUP = 241


def series(rows: int, metrics: int = 7, seed: int = 5) -> np.ndarray:
    """Two slow waves that the metrics follow, each with noise of its own; shape ``(rows, metrics)``, about z."""
    random = np.random.default_rng(seed)
    time = np.arange(rows)[:, None]
    lag = np.arange(metrics)[None, :]
    waves = np.where(lag % 2, np.sin((time - lag) / 11.0), np.cos((time - lag) / 17.0))
    return waves + 0.3 * random.standard_normal((rows, metrics))


def made(kind: type[Evidence], metrics: int = 7, capacity: int = 1, interval_s: float = 1.0, **options) -> Evidence:
    chosen = {key: default for key, (default, _, _) in kind.options.items()} | options
    evidence = kind(Setup(metrics, interval_s, 2400, chosen))
    evidence.resize(capacity)
    evidence.clear(np.arange(capacity))
    return evidence


def fitted(evidence: Evidence, z: np.ndarray, slots: list[int]) -> np.ndarray:
    """Fit on the same past in each of ``slots``; return what ``fit`` returns."""
    past = np.repeat(z[None], len(slots), axis=0)
    return evidence.fit(Past(np.array(slots), past, past, np.full(past.shape[:2], np.nan)))


def row(z: np.ndarray, slots: list[int], fresh: bool = False) -> Rows:
    """The same row in each of ``slots``, or one for each if ``z`` has two dimensions."""
    values = np.broadcast_to(z, (len(slots), z.shape[-1])).astype(np.float64)
    return Rows(np.array(slots), values, values, np.full(len(slots), np.nan), np.full(len(slots), fresh))


def drive(evidence: Evidence, z: np.ndarray, slot: int = 0, rate: float = 1.0) -> np.ndarray:
    """Score and update row by row; return the scores."""
    scores = np.empty(len(z))
    for t, now in enumerate(z):
        rows = row(now, [slot])
        scores[t] = evidence.score(rows)[0]
        evidence.update(rows, np.array([rate]))
    return scores
