"""Commotion: what most processes feel at the same moment is not the fault of one."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.evidence import Rows
from osdetectord.detection.slots import Floats, SlotArrays

OTHERS = 3
"""Fewer others than this say nothing of the host."""
BEFORE, AT_ONCE = 8, 3
"""Rows before whose lowest score a rise counts, and rows within which rises are of the same moment."""
ORDINARY = 0.8
"""Scores rise by so much for no reason."""


class Commotion(SlotArrays):
    """Finds by how much half of the other processes' combined scores rose at the same moment.

    A neighbour that takes the CPU, a disk that stalls or a virtual machine that was stopped is felt by all.  Only the
    rise counts, so that faults of several processes which do not begin together are told as ever.  It counts when an
    alarm is to be raised; the scores themselves are the process's own, whoever else is watched.
    """

    name = "commotion"

    def __init__(self) -> None:
        super().__init__()
        self.declare("recent", (BEFORE + AT_ONCE,), fill=np.inf)

    def common(self, rows: Rows, combined: Floats) -> Floats:
        """Return shape ``(K,)``, what of each combined score is common to most; take the row in."""
        slots, recent = rows.slots, self["recent"]
        recent[slots[rows.fresh]] = np.inf
        lowest = recent[slots, :BEFORE].min(axis=1)
        rise = np.where(np.isfinite(lowest), combined - lowest, 0.0)
        recent[slots, :-1] = recent[slots, 1:]
        recent[slots, -1] = combined
        others = len(slots) - 1
        if others < OTHERS:
            return np.zeros(len(slots))
        ordered = -np.sort(-rise)
        rank = (others + 1) // 2 - 1
        # one that is itself among the first makes room for the next
        of_others = np.where(rise >= ordered[rank], ordered[rank + 1], ordered[rank])
        return np.asarray(np.maximum(of_others - ORDINARY, 0.0))
