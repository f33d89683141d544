"""Packed: numbers of known size in two bytes each, for what is kept of many rows of many series."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.pieces import pieces
from osdetectord.detection.slots import Slots

Packed = NDArray[np.int16]
_MOST = np.iinfo(np.int16).max


def pack(numbers: NDArray[np.floating[Any]], most: float) -> Packed:
    """Return ``numbers``, each within ``[-most, most]``, to the nearest of 65535 steps."""
    return np.asarray(np.rint(np.clip(numbers, -most, most) * (_MOST / most)).astype(np.int16))


def unpack(packed: Packed, most: float) -> NDArray[np.float32]:
    """Return the numbers again, off by half a step at most."""
    return np.asarray(packed.astype(np.float32) * np.float32(most / _MOST))


def products(packed: Packed, at: Slots, vectors: NDArray[np.float32], most: float) -> NDArray[np.float32]:
    """Return shape ``(K, R)``: the matrices ``packed[at]``, of shape ``(K, R, C)``, times one vector each."""
    found = np.empty((len(at), packed.shape[1], 1), np.float32)
    scaled = vectors[:, :, None] * np.float32(most / _MOST)
    for part in pieces(len(at), packed[0].size):
        # a product for each series: the same rows must give the same score in any company
        np.matmul(packed[at[part]].astype(np.float32), scaled[part], out=found[part])
    return found[:, :, 0]
