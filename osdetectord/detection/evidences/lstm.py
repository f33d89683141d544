"""LSTM: how badly a small recurrent network, trained on the process's own past, foretells its next row."""

from __future__ import annotations

import os
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.dynamic_threshold import dynamic_threshold
from osdetectord.detection.evidence import Evidence, Options, Past, Rows, Setup
from osdetectord.detection.packed import pack, unpack
from osdetectord.detection.pieces import pieces
from osdetectord.detection.scale import NORMAL_CONSISTENCY
from osdetectord.detection.slots import Floats, Slots
from osdetectord.detection.smoothing import ewma

SEED = 20180819
"""Of the first weights, the same for every process: the same rows give the same forecasts."""
INPUT_CLIP = 5.0
"""Beyond this z a row is just far out; its square would drown the training."""
ERROR_CLIP = 30.0
LEAST_ERROR = 0.1
"""Forecasts of noise-free metrics are better than this, but that is no reason to call 0.1 spreads abnormal."""
PRIOR_ROWS = 60
"""Rows that the guess of one spread counts for in the usual error of a forecast."""
PRIOR_LEVEL = 2.0
PRIOR_ERRORS = 120
"""The guess of a threshold, in usual errors, and the number of smoothed errors that it counts for."""
SEGMENT = 16
"""Rows over which the gradient is carried back."""
BURN_IN = 3
"""First rows of a segment, in which the state fills and no error counts."""
LEARNING_RATE = 0.01
MAX_GRADIENT = 1.0
TRAIN_ROWS = 1536
"""A fit trains on at most this many of the last rows."""
BATCH = 64
"""Processes that are trained together: what the gradient remembers of them stays below 30 MB."""
HISTORY = 2100
"""Smoothed errors from which the dynamic threshold is found, as Telemanom has it."""
RETHRESHOLD = 30
"""Rows between two looks for the threshold."""

Weights = tuple[Any, ...]
"""With the series as first axis: input, recurrent, gate bias, output, bias."""
Array = NDArray[Any]


def load_torch() -> ModuleType:
    """Return torch, made fit for a small service: one thread, and no code generated at run time.

    oneDNN writes machine code and then makes it executable, which ``MemoryDenyWriteExecute=`` forbids.  MKL, where
    torch has it, rounds by where an array begins in memory, unless it is asked for strict reproducibility.
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
    torch = import_module("torch")
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    return torch


class Lstm(Evidence):
    """Smoothed error of a one-step forecast, in units of its non-parametric dynamic threshold.

    Telemanom (Hundman et al., KDD 2018, doi:10.1145/3219819.3219845), for many processes at once: each has weights of
    its own, and all take one step in a few batched matrix products.  The recurrent state is kept from row to row,
    where the original feeds 250 rows anew each time.  Weights are trained when the process is fitted and then go on
    learning, one short pass over its recent rows every ``every`` rows, each process in rows of its own.
    """

    name = "lstm"
    options: ClassVar[Options] = {
        "hidden": (16, 16, 128),
        "passes": (30, 1, 1000),
        "every": (30, 1, 100000),
        "smoothing": (0.25, 0.01, 1.0),
    }
    min_rows = 60
    typical = (-0.7, 0.33)

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._torch = load_torch()
        self._alpha = setup.options["smoothing"]
        self._every = int(setup.options["every"])
        hidden, metrics = int(setup.options["hidden"]), setup.metrics
        self._recent = 4 * SEGMENT + 1
        random = np.random.default_rng(SEED)
        self._first = tuple(
            (random.uniform(-1, 1, shape) / np.sqrt(hidden)).astype(np.float32)
            for shape in ((metrics, 4 * hidden), (hidden, 4 * hidden), (1, 4 * hidden), (hidden, metrics), (1, metrics))
        )
        self._names = ("input", "recurrent", "gate_bias", "output", "bias")
        for name, first in zip(self._names, self._first, strict=True):
            self.declare(name, first.shape, np.float32)
        self.declare("hidden", (hidden,), np.float32)
        self.declare("cell", (hidden,), np.float32)
        self.declare("forecast", (metrics,), np.float32)
        self.declare("spread", (metrics,), fill=1.0)
        self.declare("error", (metrics,))
        self.declare("recent", (self._recent, metrics), np.int16)
        self.declare("seen", (), np.int64)
        self.declare("fresh_rows", (), np.int64)
        self.declare("turn", (), np.int64)
        self.declare("history", (HISTORY,), np.float16, np.nan)
        self.declare("held", (), np.int64)
        self.declare("threshold", (), fill=np.inf)

    @classmethod
    def absent(cls) -> str:
        try:
            load_torch()
        except (ImportError, OSError) as error:
            return f"torch cannot be imported: {error}"
        return ""

    def learn(self, past: Past) -> None:
        self.clear(past.slots)
        for start in range(0, len(past.slots), BATCH):
            part = slice(start, start + BATCH)
            self._learn(Past(past.slots[part], past.x[part], past.z[part], past.load[part]))

    def _learn(self, past: Past) -> None:
        slots = past.slots
        rows = np.clip(past.z[:, -TRAIN_ROWS:], -INPUT_CLIP, INPUT_CLIP).astype(np.float32)
        first = tuple(np.repeat(weight[None], len(slots), axis=0) for weight in self._first)
        weights = self._train(first, rows, int(self.setup.options["passes"]))
        for name, trained in zip(self._names, weights, strict=True):
            self[name][slots] = trained
        residual, last, state = self._replay(weights, rows)
        self["forecast"][slots] = last
        self["hidden"][slots], self["cell"][slots] = state
        seen = residual.shape[1]
        usual = NORMAL_CONSISTENCY * np.median(np.abs(residual), axis=1)
        # errors on the rows it was trained on flatter a network; an untrained one errs as much as the metric varies
        usual = (seen * usual + PRIOR_ROWS) / (seen + PRIOR_ROWS)
        self["spread"][slots] = np.maximum(usual, LEAST_ERROR)
        relative = np.minimum(np.abs(residual) / self["spread"][slots][:, None], ERROR_CLIP)
        smoothed = ewma(relative, self._alpha)
        self["error"][slots] = smoothed[:, -1]
        errors = _total(smoothed[:, BURN_IN:])
        self["history"][slots, : errors.shape[1]] = errors
        self["held"][slots] = errors.shape[1]
        kept = rows[:, -self._recent :]
        self["recent"][slots, : kept.shape[1]] = pack(kept, INPUT_CLIP)
        self["seen"][slots] = self["fresh_rows"][slots] = kept.shape[1]
        self["threshold"][slots] = self._level(slots)
        # Processes that were fitted together train at different rows, told by their data and not by their neighbours.
        for k, slot in enumerate(slots):
            self["turn"][slot] = crc32(past.z[k].tobytes()) % self._every

    def _error(self, rows: Rows) -> Floats:
        """Smoothed absolute error of the forecast by metric, in usual errors.  Shape ``(K, M)``."""
        now = np.clip(rows.z, -INPUT_CLIP, INPUT_CLIP)
        away = np.abs(now - self["forecast"][rows.slots]) / self["spread"][rows.slots]
        # what is beyond the reach of the network is an error in full
        away += np.abs(rows.z - now)
        away = np.where(rows.fresh[:, None], 0.0, np.minimum(away, ERROR_CLIP))
        error = np.where(rows.fresh[:, None], 0.0, self["error"][rows.slots])
        smoothed: Floats = error + self._alpha * (away - error)
        return smoothed

    def score(self, rows: Rows) -> Floats:
        score: Floats = _total(self._error(rows)) / self["threshold"][rows.slots]
        return score

    def blame(self, rows: Rows) -> Floats:
        return self._error(rows)

    def update(self, rows: Rows, rate: Floats) -> None:
        slots = rows.slots
        error = self._error(rows)
        self["error"][slots] = error
        self["fresh_rows"][slots[rows.fresh]] = 0
        for name in ("hidden", "cell"):
            self[name][slots[rows.fresh]] = 0.0
        now = np.clip(rows.z, -INPUT_CLIP, INPUT_CLIP).astype(np.float32)
        calm = (rate >= 1.0) & np.isfinite(self["threshold"][slots])
        seen = self["seen"][slots]
        total = _total(error)
        # what stands out does not raise the threshold, unless it was accepted as the new normal
        usual = calm & ((total < self["threshold"][slots]) | (rate > 1.0))
        into = slots[usual]
        self["history"][into, self["held"][into] % HISTORY] = total[usual]
        self["held"][into] += 1
        self["recent"][slots, seen % self._recent] = pack(now, INPUT_CLIP)
        self["seen"][slots] += 1
        self["fresh_rows"][slots] = np.minimum(self["fresh_rows"][slots] + 1, self._recent)
        turn = seen + self["turn"][slots]
        look = slots[calm & (turn % RETHRESHOLD == 0)]
        self["threshold"][look] = self._level(look)
        due = calm & (turn % self._every == 0) & (self["fresh_rows"][slots] == self._recent)
        if due.any():
            self._go_on(slots[due])
        self._step(slots, now)

    def _level(self, slots: Slots) -> Floats:
        """Dynamic threshold of these series, drawn to a guess while their history is short."""
        history = self["history"][slots].astype(np.float64)
        count = np.isfinite(history).sum(axis=1)
        known = count > 0
        level = np.full(len(slots), PRIOR_LEVEL)
        level[known] = dynamic_threshold(history[known])
        threshold: Floats = (count * level + PRIOR_ERRORS * PRIOR_LEVEL) / (count + PRIOR_ERRORS)
        return threshold

    def _go_on(self, slots: Slots) -> None:
        """Train one pass over the recent rows of these series."""
        order = (self["seen"][slots][:, None] + np.arange(self._recent)) % self._recent
        recent = unpack(self["recent"][slots[:, None], order], INPUT_CLIP)
        for name, trained in zip(self._names, self._train(self._weights(slots), recent, 1), strict=True):
            self[name][slots] = trained

    def _weights(self, slots: Slots) -> Weights:
        return tuple(self[name][slots] for name in self._names)

    def _step(self, slots: Slots, now: Array) -> None:
        """Take in the present row and foretell the next one."""
        for part in pieces(len(slots), sum(first.size for first in self._first)):
            some = slots[part]
            weights = self._weights(some)
            hidden, cell = _advance(weights, now[part], self["hidden"][some], self["cell"][some])
            self["hidden"][some], self["cell"][some] = hidden, cell
            self["forecast"][some] = _foretell(weights, hidden)

    def _replay(self, weights: Weights, rows: Array) -> tuple[Floats, Array, tuple[Array, Array]]:
        """Return what the forecasts missed of rows 1.., the forecast after the last row, and the state there."""
        hidden = cell = np.zeros((len(rows), weights[1].shape[1]), np.float32)
        missed = np.empty((len(rows), rows.shape[1] - 1, rows.shape[2]))
        for t in range(rows.shape[1] - 1):
            hidden, cell = _advance(weights, rows[:, t], hidden, cell)
            missed[:, t] = rows[:, t + 1] - _foretell(weights, hidden)
        hidden, cell = _advance(weights, rows[:, -1], hidden, cell)
        return missed, _foretell(weights, hidden), (hidden, cell)

    def _train(self, weights: Weights, rows: Array, passes: int) -> Weights:
        """Return the weights after ``passes`` steps of Adam over all segments of ``rows``, each series on its own."""
        torch = self._torch
        # torch rounds the last few elements of an array differently: let them belong to no one
        rows = np.concatenate([rows, rows[:1], rows[:1]])
        count, length, metrics = rows.shape
        segment = min(SEGMENT, length - 1)
        segments = (length - 1) // segment
        start = [torch.from_numpy(np.concatenate([weight, weight[:1], weight[:1]])) for weight in weights]
        trained = [weight.requires_grad_(True) for weight in start]
        moments = [(torch.zeros_like(weight), torch.zeros_like(weight)) for weight in trained]
        for number in range(1, passes + 1):
            # segments begin elsewhere in each pass, so that every row is both context and target
            begin = (number * 5) % (length - segments * segment)
            part = torch.from_numpy(rows[:, begin : begin + segments * segment + 1])
            given = part[:, :-1].reshape(count, segments, segment, metrics)
            wanted = part[:, 1:].reshape(count, segments, segment, metrics)
            loss = self._loss(trained, given, wanted)
            gradients = torch.autograd.grad(loss, trained)
            with torch.no_grad():
                size = torch.sqrt(sum((g * g).sum(dim=(1, 2)) for g in gradients))
                shrink = torch.clamp(MAX_GRADIENT / (size + 1e-9), max=1.0)[:, None, None]
                for weight, gradient, (mean, square) in zip(trained, gradients, moments, strict=True):
                    step = gradient * shrink
                    mean.mul_(0.9).add_(step, alpha=0.1)
                    square.mul_(0.99).addcmul_(step, step, value=0.01)
                    rate = LEARNING_RATE * (1 - number / (passes + 1)) ** 0.5
                    unbiased = torch.sqrt(square / (1 - 0.99**number)) + 1e-8
                    weight.sub_(rate / (1 - 0.9**number) * mean / unbiased)
        return tuple(weight.detach().numpy()[:-2] for weight in trained)

    def _loss(self, weights: list[Any], given: Any, wanted: Any) -> Any:
        """Sum over series of the mean Huber loss: series do not see each other."""
        torch = self._torch
        count, segments, segment, metrics = given.shape
        flat = given.reshape(count, segments * segment, metrics)
        gates = torch.baddbmm(weights[2], flat, weights[0]).reshape(count, segments, segment, -1)
        hidden = cell = torch.zeros(count, segments, weights[1].shape[1])
        states = []
        for t in range(segment):
            hidden, cell = _cell(torch, gates[:, :, t], hidden, cell, weights[1])
            states.append(hidden)
        skip = min(BURN_IN, segment - 1)
        kept = torch.stack(states[skip:], dim=2).reshape(count, segments * (segment - skip), -1)
        forecast = torch.baddbmm(weights[4], kept, weights[3])
        missed = torch.abs(forecast - wanted[:, :, skip:].reshape(forecast.shape))
        huber = torch.where(missed < 1.0, 0.5 * missed * missed, missed - 0.5)
        return huber.mean(dim=(1, 2)).sum()


def _cell(torch: ModuleType, gates: Any, hidden: Any, cell: Any, recurrent: Any) -> tuple[Any, Any]:
    """One step of an LSTM (Hochreiter & Schmidhuber 1997, with forget gate), batched over series, for training."""
    gates = torch.baddbmm(gates, hidden, recurrent)
    size = hidden.shape[-1]
    # the forget gate starts open: +1 (Jozefowicz et al., ICML 2015)
    keep = torch.sigmoid(gates[..., :size] + 1.0)
    let_in = torch.sigmoid(gates[..., size : 2 * size])
    let_out = torch.sigmoid(gates[..., 2 * size : 3 * size])
    cell = keep * cell + let_in * torch.tanh(gates[..., 3 * size :])
    return let_out * torch.tanh(cell), cell


def _advance(weights: Weights, now: Array, hidden: Array, cell: Array) -> tuple[Array, Array]:
    """The same step in numpy, whose products do not depend on who else is in the batch.  Shapes ``(K, ...)``."""
    gates = (now[:, None] @ weights[0] + hidden[:, None] @ weights[1] + weights[2])[:, 0]
    size = hidden.shape[-1]
    keep = _sigmoid(gates[:, :size] + np.float32(1.0))
    let_in, let_out = _sigmoid(gates[:, size : 2 * size]), _sigmoid(gates[:, 2 * size : 3 * size])
    cell = keep * cell + let_in * np.tanh(gates[:, 3 * size :])
    return let_out * np.tanh(cell), cell


def _foretell(weights: Weights, hidden: Array) -> Array:
    forecast: Array = (hidden[:, None] @ weights[3] + weights[4])[:, 0]
    return forecast


def _sigmoid(x: Array) -> Array:
    # the form of tanh does not overflow
    half = np.float32(0.5)
    squashed: Array = half * np.tanh(half * x) + half
    return squashed


def _total(error: Floats) -> Floats:
    """Mean over the metrics, the last axis."""
    total: Floats = error.mean(axis=-1)
    return total
