"""Change: by how much each metric differs from what it was three rows ago."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.evidence import Past, Rows
from osdetectord.detection.slots import Bools, Floats, SlotArrays

LAG = 3


class Change:
    """The change over three rows, for an evidence that keeps the rows among its own arrays.

    Parameters
    ----------
    owner
        The evidence; it has the arrays ``recent`` and ``filled`` from then on.
    metrics
        Number M of metrics.
    """

    def __init__(self, owner: SlotArrays, metrics: int) -> None:
        self._owner = owner
        owner.declare("recent", (LAG, metrics))
        owner.declare("filled", (), np.int64)

    @staticmethod
    def past(past: Past) -> Floats:
        """Return the absolute changes of a past of T rows, shape ``(K, T - 3, M)``."""
        return np.asarray(np.abs(past.z[:, LAG:] - past.z[:, :-LAG]))

    def learn(self, past: Past) -> None:
        """Begin with the last rows of ``past``."""
        self._owner["recent"][past.slots] = past.z[:, -LAG:]
        self._owner["filled"][past.slots] = LAG

    def _filled(self, rows: Rows) -> NDArray[np.int64]:
        return np.where(rows.fresh, 0, self._owner["filled"][rows.slots])

    def known(self, rows: Rows) -> Bools:
        """Return shape ``(K,)``, whether the row three rows ago is one of the same run."""
        return np.asarray(self._filled(rows) >= LAG)

    def now(self, rows: Rows) -> Floats:
        """Return the absolute changes, shape ``(K, M)``; 0 where they are not known."""
        change = np.abs(rows.z - self._owner["recent"][rows.slots, 0])
        return np.where(self.known(rows)[:, None], change, 0.0)

    def update(self, rows: Rows) -> None:
        """Advance by these rows."""
        self._owner["filled"][rows.slots] = np.minimum(self._filled(rows) + 1, LAG)
        recent = self._owner["recent"]
        recent[rows.slots, :-1] = recent[rows.slots, 1:]
        recent[rows.slots, -1] = rows.z
