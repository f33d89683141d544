"""State in slots: rows are lent to whom they belong, and what is saved of one series is all of it."""

from __future__ import annotations

import numpy as np
import pytest

from osdetectord.detection.slots import CHUNK, SlotArrays
from osdetectord.errors import ShapeError

WIDTH = 3


class Kept(SlotArrays):
    name = "kept"

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.declare("level", (WIDTH,), fill=7.0)
        self.few = self.declare_for_some("few", (2, WIDTH), np.float32, fill=-1.0)
        self.resize(capacity)

    def put(self, slot: int, number: float) -> None:
        place = self.few.lend(np.array([slot]))
        self.few.rows[place] = number

    def of(self, slot: int) -> np.ndarray:
        return self.few.rows[self.few.at(np.array([slot]))[0]]


def test_a_row_is_lent_filled_and_stays_with_its_slot_when_others_come_and_go():
    random = np.random.default_rng(5)
    kept, expected = Kept(211), {}
    for turn in range(997):
        slot = int(random.integers(211))
        if slot in expected and turn % 2:
            kept.few.take_back(np.array([slot]))
            del expected[slot]
        elif slot not in expected:
            kept.few.lend(np.array([slot]))
            assert (kept.of(slot) == -1.0).all()
            kept.put(slot, float(turn))
            expected[slot] = float(turn)
    assert expected
    assert all((kept.of(slot) == number).all() for slot, number in expected.items())
    assert kept.few.has(np.arange(211)).tolist() == [slot in expected for slot in range(211)]


def test_the_room_of_rows_that_are_taken_back_is_given_up():
    kept = Kept(5 * CHUNK)
    kept.few.lend(np.arange(5 * CHUNK))
    assert len(kept.few.rows) == 5 * CHUNK
    kept.put(2, 3.0)
    kept.few.take_back(np.delete(np.arange(5 * CHUNK), 2))
    assert len(kept.few.rows) <= 3 * CHUNK
    assert (kept.of(2) == 3.0).all()


def test_what_was_saved_of_a_slot_is_restored_into_another():
    kept, other = Kept(4), Kept(9)
    kept["level"][1] = 5.0
    kept.put(1, 11.0)
    other.restore(8, kept.state(1))
    assert (other["level"][8] == 5.0).all() and (other.of(8) == 11.0).all()
    other.restore(8, kept.state(0))
    assert not other.few.has(np.array([8]))[0]
    assert set(kept.state(0)) == {"level"}


def test_a_slot_that_is_cleared_has_nothing():
    kept = Kept(2)
    kept.put(0, 2.0)
    kept.put(1, 4.0)
    kept["level"][:] = 1.0
    kept.clear(np.array([0]))
    assert (kept["level"][0] == 7.0).all() and (kept["level"][1] == 1.0).all()
    assert kept.few.has(np.arange(2)).tolist() == [False, True]
    assert (kept.of(1) == 4.0).all()


def test_more_room_leaves_all_where_it_is():
    kept = Kept(2)
    kept.put(1, 4.0)
    kept["level"][1] = 1.0
    kept.resize(CHUNK + 2)
    assert (kept["level"][1] == 1.0).all() and (kept["level"][CHUNK + 1] == 7.0).all()
    assert (kept.of(1) == 4.0).all() and not kept.few.has(np.array([CHUNK + 1]))[0]


def test_who_looks_at_an_array_still_sees_it_when_it_was_resized():
    kept = Kept(3)
    kept["level"][2] = 5.0
    kept.put(1, 4.0)
    level, few = kept["level"][2], kept.of(1)
    kept.resize(7 * CHUNK)
    kept.few.lend(np.arange(7 * CHUNK))
    assert (level == 5.0).all() and (few == 4.0).all()
    assert (kept["level"][2] == 5.0).all() and (kept.of(1) == 4.0).all()


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: state.pop("level"),
        lambda state: state.update(level=np.zeros(WIDTH + 1)),
        lambda state: state.update(few=np.zeros((2, WIDTH))),
        lambda state: state.update(few=np.zeros((3, WIDTH), np.float32)),
    ],
)
def test_a_state_of_another_kind_is_refused_and_nothing_changed(damage):
    kept = Kept(1)
    kept.put(0, 2.0)
    state = kept.state(0)
    damage(state)
    with pytest.raises(ShapeError, match="kept"):
        kept.restore(0, state)
    assert (kept.of(0) == 2.0).all()
