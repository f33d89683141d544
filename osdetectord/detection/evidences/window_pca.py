"""Window PCA: what of the last rows does not lie in the subspace in which the process moves."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.evidence import Evidence, Options, Past, Rows, Setup
from osdetectord.detection.packed import pack, products, unpack
from osdetectord.detection.slots import Bools, Floats

COMPONENTS = 16
VARIANCE = 0.9
MOST_WINDOWS = 480


class WindowPca(Evidence):
    """Root mean squared residual of a window of rows against its principal components."""

    name = "window_pca"
    typical = (-0.08, 0.22)
    options: ClassVar[Options] = {"rows": (5, 2, 60)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._rows = int(setup.options["rows"])
        # half of the past teaches what the other half is scored by, and needs two windows at least
        self.min_rows = max(self.min_rows, 2 * (self._rows + 1))
        size = self._rows * setup.metrics
        self.declare("recent", (self._rows - 1, setup.metrics), np.float32)
        self.declare("mean", (size,), np.float32)
        self.declare("components", (COMPONENTS, size), np.int16)
        self.declare("live", fill=1.0)
        self.declare("filled", (), np.int64)

    def learn(self, past: Past) -> None:
        windows = np.lib.stride_tricks.sliding_window_view(past.z, self._rows, axis=1).swapaxes(2, 3)
        stride = max(1, windows.shape[1] // MOST_WINDOWS)
        self["live"][past.slots] = past.live()
        components = np.zeros((len(past.slots), *self["components"].shape[1:]))
        for k, slot in enumerate(past.slots):
            flat = windows[k, ::stride].reshape(-1, self._rows * self.setup.metrics)
            mean = flat.mean(axis=0)
            self["mean"][slot] = mean
            centred = flat - mean
            # the smaller of the two Gram matrices gives the same components as an SVD of the windows
            values, vectors = np.linalg.eigh(centred @ centred.T)
            values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
            share = np.cumsum(values) / max(float(values.sum()), 1e-12)
            keep = min(int(np.searchsorted(share, VARIANCE)) + 1, COMPONENTS, len(values))
            keep = min(keep, int((values > 1e-9).sum()))
            components[k, :keep] = (vectors[:, :keep] / np.sqrt(values[:keep])).T @ centred
        # they are of length 1
        self["components"][past.slots] = pack(components, 1.0)
        self["recent"][past.slots] = past.z[:, past.z.shape[1] - (self._rows - 1) :]
        self["filled"][past.slots] = self._rows - 1

    def _centred(self, rows: Rows) -> NDArray[np.float32]:
        window = np.concatenate([self["recent"][rows.slots], rows.z[:, None].astype(np.float32)], axis=1)
        return np.asarray(window.reshape(len(rows), -1) - self["mean"][rows.slots])

    def _residual(self, rows: Rows) -> Floats:
        centred, basis = self._centred(rows), unpack(self["components"][rows.slots], 1.0)
        weights = np.matmul(basis, centred[:, :, None])
        residual: Floats = centred - np.matmul(weights.swapaxes(1, 2), basis)[:, 0]
        return np.where(self._full(rows)[:, None], residual, 0.0)

    def _full(self, rows: Rows) -> Bools:
        return np.where(rows.fresh, 0, self["filled"][rows.slots]) >= self._rows - 1

    def score(self, rows: Rows) -> Floats:
        centred = self._centred(rows)
        weights = products(self["components"], rows.slots, centred, 1.0)
        # the components are orthonormal: what they do not hold is what is left of the squares
        left = np.maximum((centred * centred).sum(axis=1) - (weights * weights).sum(axis=1), 0.0)
        return np.where(self._full(rows), np.sqrt(left / (self._rows * self["live"][rows.slots])), 0.0)

    def update(self, rows: Rows, rate: Floats) -> None:
        recent = self["recent"]
        filled = np.where(rows.fresh, 0, self["filled"][rows.slots])
        self["filled"][rows.slots] = np.minimum(filled + 1, self._rows - 1)
        recent[rows.slots, :-1] = recent[rows.slots, 1:]
        recent[rows.slots, -1] = rows.z

    def blame(self, rows: Rows) -> Floats:
        residual = self._residual(rows).reshape(len(rows), self._rows, self.setup.metrics)
        energy: Floats = (residual * residual).sum(axis=1)
        return energy
