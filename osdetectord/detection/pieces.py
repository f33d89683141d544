"""Pieces: work on many series at once, in parts small enough to stay in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

PIECE = 1 << 18
"""Numbers in a piece: 1 MiB of float32.  A copy of the matrices of a thousand series at once costs more than the
products that it is for."""


def pieces(count: int, size: int) -> Iterator[slice]:
    """Yield slices that together are ``range(count)``, for things of ``size`` numbers each."""
    step = max(1, PIECE // size)
    for start in range(0, count, step):
        yield slice(start, start + step)


def nth_smallest(values: NDArray[np.float32], n: int) -> NDArray[np.float32]:
    """Return the ``n``-th smallest of each row of ``values``, shape ``(K, S)``, which is used up.

    For small ``n`` looking for the smallest again and again is many times faster than a partition.
    """
    rows = np.arange(len(values))
    for _ in range(n - 1):
        values[rows, values.argmin(axis=1)] = np.inf
    return np.asarray(values.min(axis=1))
