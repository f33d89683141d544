"""Detectors that everybody knows, as plain as they come, for the table beside ours.

Each learns from warm-up rows and then scores what follows, strictly causal, with an alarm of its own: SPOT where its
authors give no threshold.  ``score`` may be called with any number of rows at a time; state goes on between calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol
from zlib import crc32

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bench.detection.paper_spot import Spot
from osdetectord.detection.basis_pursuit import basis_pursuit, cosine_basis
from osdetectord.detection.dynamic_threshold import dynamic_threshold

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SLOW = 1000
"""With fewer rows a day than this a row is minutes long."""


class Baseline(Protocol):
    """One detector for one series."""

    def fit(self, warm: Floats) -> None:
        """Learn from the warm-up; shape ``(T, M)``, oldest first."""

    def score(self, rows: Floats) -> tuple[Floats, Bools]:
        """Score the rows that follow, shape ``(n, M)``; return scores (high = abnormal) and alarms, ``(n,)`` each."""


class WithSpot(ABC):
    """A score whose alarm level is found by SPOT, at 0.3 false alarms a day or 1e-4 a row, whichever is more."""

    def __init__(self, rows_per_day: int) -> None:
        self.slow = rows_per_day < SLOW
        self._spot = Spot(max(1e-4, 0.3 / rows_per_day))

    def fit(self, warm: Floats) -> None:
        self.learn(warm)
        self._spot.start(self.raw(warm)[len(warm) // 10 :])

    def score(self, rows: Floats) -> tuple[Floats, Bools]:
        scores = self.raw(rows)
        return scores, np.array([self._spot.step(float(score)) for score in scores], bool)

    @abstractmethod
    def learn(self, warm: Floats) -> None:
        """Learn all but the threshold."""

    @abstractmethod
    def raw(self, rows: Floats) -> Floats:
        """Return scores, and go on by these rows."""


def robust_scale(rows: Floats) -> tuple[Floats, Floats]:
    """Median and MAD of each column; the standard deviation, then a part of the median, where the MAD is 0."""
    middle = np.median(rows, axis=0)
    spread = 1.4826 * np.median(np.abs(rows - middle), axis=0)
    spread = np.where(spread > 1e-9 * (np.abs(middle) + 1e-12), spread, rows.std(axis=0))
    return middle, np.where(spread > 0, spread, np.maximum(1e-6, 0.05 * np.abs(middle)))


class Tail:
    """Remembers the last rows, so that windows reach back over calls; the first row stands for what was before."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._last: Floats | None = None

    def before(self, rows: Floats) -> Floats:
        """Return ``rows`` with ``length`` rows in front of them."""
        last = np.repeat(rows[:1], self._length, axis=0) if self._last is None else self._last
        joined = np.concatenate([last, rows])
        self._last = joined[len(joined) - self._length :]
        return joined


def ewma(values: Floats, alpha: float, start: float) -> Floats:
    out = np.empty(len(values))
    for k, value in enumerate(values):
        start += alpha * (float(value) - start)
        out[k] = start
    return out


class Random(WithSpot):
    """Noise: what a measure of quality must tell from a detector."""

    def learn(self, warm: Floats) -> None:
        self._random = np.random.default_rng(crc32(np.ascontiguousarray(warm).tobytes()))

    def raw(self, rows: Floats) -> Floats:
        noise: Floats = self._random.random(len(rows))
        return noise


class MaxDiff(WithSpot):
    """Largest change from row to row, in the usual change of its metric."""

    def learn(self, warm: Floats) -> None:
        _, self._spread = robust_scale(np.diff(warm, axis=0))
        self._tail = Tail(1)

    def raw(self, rows: Floats) -> Floats:
        change = np.abs(np.diff(self._tail.before(rows), axis=0)) / self._spread
        largest: Floats = np.minimum(change, 1e6).max(axis=1)
        return largest


class Pca(WithSpot):
    """Distance from the mean in units of the principal axes, as PyOD has it."""

    def learn(self, warm: Floats) -> None:
        self._mean, spread = warm.mean(axis=0), warm.std(axis=0)
        self._spread = np.where(spread > 0, spread, np.maximum(1e-3, 0.05 * np.abs(self._mean)))
        covariance = np.atleast_2d(np.cov(self._standard(warm).T))
        values, self._axes = np.linalg.eigh(covariance + 1e-6 * np.eye(len(covariance)))
        self._values = np.maximum(values, 1e-3)

    def _standard(self, rows: Floats) -> Floats:
        standard: Floats = np.clip((rows - self._mean) / self._spread, -20, 20)
        return standard

    def raw(self, rows: Floats) -> Floats:
        distance: Floats = np.sqrt(((self._standard(rows) @ self._axes) ** 2 / self._values).sum(axis=1))
        return distance


class Ecod(WithSpot):
    """ECOD (Li et al., TKDE 2022) with the distribution of the warm-up, since the original's joins the future."""

    def learn(self, warm: Floats) -> None:
        self._sorted = np.sort(warm, axis=0)
        self._skew = ((warm - warm.mean(axis=0)) ** 3).mean(axis=0)

    def raw(self, rows: Floats) -> Floats:
        count = len(self._sorted)
        columns = range(rows.shape[1])
        below = np.stack([np.searchsorted(self._sorted[:, k], rows[:, k], "right") for k in columns], axis=1)
        above = count - np.stack([np.searchsorted(self._sorted[:, k], rows[:, k], "left") for k in columns], axis=1)
        left, right = -np.log((below + 1) / (count + 2)), -np.log((above + 1) / (count + 2))
        skewed = np.where(self._skew < 0, left, right)
        best: Floats = np.stack([left, right, skewed]).sum(axis=2).max(axis=0)
        return best


class Netdata:
    """Consensus of 2-means models for each metric, after Netdata's documentation, with its windows scaled down.

    Each metric's changes, smoothed over 3 rows, make vectors of 6; a model is two centres of a staggered stretch of
    the past; a metric's bit is set when it is farther from both than all of that stretch, in every one of up to 18
    models.  Score: mean over metrics of the least normalised distance, and the rate of bits; alarm by the rate.
    """

    models = 18
    rate = 0.10

    def __init__(self, rows_per_day: int) -> None:
        slow = rows_per_day < SLOW
        self._every, self._over = (144, 12) if slow else (300, 10)

    def fit(self, warm: Floats) -> None:
        self._tail, self._bits = Tail(8), Tail(self._over - 1)
        vectors = self._vectors(warm)
        self._length = max(60, len(vectors) // 6)
        step = max(1, (len(vectors) - self._length) // (self.models - 1))
        starts = range(0, max(1, len(vectors) - self._length + 1), step)
        self._trained = [self._train(vectors[k : k + self._length]) for k in starts][-self.models :]
        self._recent, self._since = vectors[-self._length :], 0

    def _vectors(self, rows: Floats) -> Floats:
        """Return shape ``(n, M, 6)``."""
        change = np.diff(self._tail.before(rows), axis=0)
        smooth = (change[2:] + change[1:-1] + change[:-2]) / 3
        return sliding_window_view(smooth, 6, axis=0)[-len(rows) :]

    @staticmethod
    def _distance(vectors: Floats, centres: Floats) -> Floats:
        nearest: Floats = np.sqrt(((vectors[:, :, None] - centres[None]) ** 2).sum(axis=3)).min(axis=2)
        return nearest

    def _train(self, vectors: Floats) -> tuple[Floats, Floats, Floats]:
        vectors = vectors[:: max(1, len(vectors) // 400)]
        farthest = ((vectors - vectors.mean(axis=0)) ** 2).sum(axis=2).argmax(axis=0)
        centres = np.stack([vectors[len(vectors) // 4], vectors[farthest, np.arange(vectors.shape[1])]], axis=1)
        for _ in range(15):
            nearer = ((vectors[:, :, None] - centres[None]) ** 2).sum(axis=3).argmin(axis=2)
            for k in (0, 1):
                mine = (nearer == k)[:, :, None]
                count = mine.sum(axis=0)
                mean = (vectors * mine).sum(axis=0) / np.maximum(count, 1)
                centres[:, k] = np.where(count > 0, mean, centres[:, k])
        distance = self._distance(vectors, centres)
        low = distance.min(axis=0)
        return centres, low, np.maximum(distance.max(axis=0) - low, 1e-12)

    def score(self, rows: Floats) -> tuple[Floats, Bools]:
        parts = [self._part(rows[k : k + self._every]) for k in range(0, len(rows), self._every)]
        return np.concatenate([scores for scores, _ in parts]), np.concatenate([alarms for _, alarms in parts])

    def _part(self, rows: Floats) -> tuple[Floats, Bools]:
        vectors = self._vectors(rows)
        least = np.full(rows.shape, np.inf)
        for centres, low, width in self._trained:
            least = np.minimum(least, (self._distance(vectors, centres) - low) / width)
        bits = (least > 0.99).mean(axis=1)
        rate = sliding_window_view(self._bits.before(bits[:, None])[:, 0], self._over).mean(axis=1)
        self._recent = np.concatenate([self._recent, vectors])[-self._length :]
        self._since += len(rows)
        if self._since >= self._every:
            self._since = 0
            self._trained = [*self._trained, self._train(self._recent)][-self.models :]
        return np.clip(least, 0, 20).mean(axis=1) + 5 * rate, rate > self.rate


class PlainLstm:
    """One LSTM that foretells the next row, smoothed error, dynamic threshold: Telemanom (KDD 2018)."""

    hidden, passes, history, look = 32, 60, 2100, 12

    def __init__(self, rows_per_day: int) -> None:
        self._alpha = 2 / 13 if rows_per_day < SLOW else 2 / 9

    def fit(self, warm: Floats) -> None:
        import torch

        self._torch: Any = torch
        torch.set_num_threads(1)
        torch.manual_seed(0)
        self._middle, self._spread = robust_scale(warm)
        rows = self._scaled(warm)
        count, metrics = rows.shape
        length = min(96, count // 2)
        parts = (count - 1) // length
        self._net: Any = torch.nn.LSTM(metrics, self.hidden)
        self._out: Any = torch.nn.Linear(self.hidden, metrics)
        descent = torch.optim.Adam([*self._net.parameters(), *self._out.parameters()], 5e-3)
        random = np.random.default_rng(0)
        for _ in range(self.passes if parts * length > 1000 else 2 * self.passes):
            begin = int(random.integers(0, count - parts * length))
            given, wanted = (
                torch.from_numpy(rows[k : k + parts * length].reshape(parts, length, metrics).swapaxes(0, 1).copy())
                for k in (begin, begin + 1)
            )
            loss = torch.nn.functional.smooth_l1_loss(self._out(self._net(given)[0]), wanted)
            descent.zero_grad()
            loss.backward()
            descent.step()
        self._state: Any = None
        self._forecast = rows[0]
        self._usual = np.ones(metrics)
        self._usual = np.maximum(robust_scale(self._missed(rows))[1], 0.05)
        self._state, self._forecast, self._error = None, rows[0], 0.0
        self._errors = self._smoothed(rows)[-self.history :]

    def _scaled(self, rows: Floats) -> NDArray[np.float32]:
        return np.clip((rows - self._middle) / self._spread, -5, 5).astype(np.float32)

    def _missed(self, rows: NDArray[np.float32]) -> Floats:
        torch = self._torch
        with torch.no_grad():
            states, self._state = self._net(torch.from_numpy(rows)[:, None], self._state)
            told = self._out(states)[:, 0].numpy()
        before = np.concatenate([self._forecast[None], told[:-1]])
        self._forecast = told[-1]
        return np.asarray(rows - before, np.float64)

    def _smoothed(self, rows: NDArray[np.float32]) -> Floats:
        mean = np.minimum(np.abs(self._missed(rows)) / self._usual, 30).mean(axis=1)
        smoothed = ewma(mean, self._alpha, self._error)
        self._error = float(smoothed[-1])
        return smoothed

    def score(self, rows: Floats) -> tuple[Floats, Bools]:
        scores = self._smoothed(self._scaled(rows))
        alarms = np.zeros(len(rows), bool)
        for k in range(0, len(rows), self.look):
            part = scores[k : k + self.look]
            alarms[k : k + self.look] = part > dynamic_threshold(self._errors[None])[0]
            self._errors = np.concatenate([self._errors, part])[-self.history :]
        return scores, alarms


class PlainCs(WithSpot):
    """Compressed sensing as JumpStarter has it, made causal: uniform samples, windows that end at the present row.

    Score: mean distance of the last rows from the reconstruction, over two patterns of samples.
    """

    window, samples, patterns, last = 60, 24, 2, 12

    def learn(self, warm: Floats) -> None:
        self._middle, self._spread = robust_scale(warm)
        self._tail = Tail(self.window - 1)
        random = np.random.default_rng(0)
        self._sampled = [random.permutation(self.window) < self.samples for _ in range(self.patterns)]
        self._end = cosine_basis(self.window)[-self.last :].astype(np.float32)

    def raw(self, rows: Floats) -> Floats:
        scaled = np.clip((self._tail.before(rows) - self._middle) / self._spread, -10, 10).astype(np.float32)
        cut = sliding_window_view(scaled, self.window, axis=0)
        columns = cut.transpose(2, 0, 1).reshape(self.window, -1)
        away = np.zeros(columns.shape[1])
        for sampled in self._sampled:
            spectrum = basis_pursuit(columns, sampled, tolerance=0.05).spectrum
            away += np.abs(self._end @ spectrum - columns[-self.last :]).mean(axis=0)
        mean: Floats = away.reshape(len(rows), -1).mean(axis=1) / self.patterns
        return mean


BASELINES: dict[str, Callable[[int], Baseline]] = {
    "random": Random,
    "max|diff|": MaxDiff,
    "netdata-style": Netdata,
    "ecod": Ecod,
    "pca": Pca,
    "plain lstm": PlainLstm,
    "plain cs": PlainCs,
}
"""By name in the table; called with the number of rows in a day."""
