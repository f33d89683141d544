"""The change over three rows, of which an evidence keeps the rows."""

from __future__ import annotations

import numpy as np
from evidence_driver import row

from osdetectord.detection.change import LAG, Change
from osdetectord.detection.slots import SlotArrays

SLOT = np.array([0])


def seen(change, z, fresh=False):
    """Return the change of a row, and whether it is known, and go on to the next one."""
    rows = row(np.array([z]), [0], fresh)
    found = change.now(rows)[0, 0], bool(change.known(rows)[0])
    change.update(rows)
    return found


def test_a_change_is_known_from_the_fourth_row_on_and_not_over_a_gap():
    owner = SlotArrays()
    change = Change(owner, 1)
    owner.resize(1)
    owner.clear(SLOT)
    unknown = [(0.0, False)] * LAG
    assert [seen(change, z) for z in (7.0, 8.0, 6.0, 11.0, 5.0)] == [*unknown, (4.0, True), (3.0, True)]
    after = [seen(change, 50.0, fresh=True), *(seen(change, z) for z in (51.0, 53.0, 47.0))]
    assert after == [*unknown, (3.0, True)]
