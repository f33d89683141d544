"""Slots: state of many series kept in arrays whose first axis is the series, so that series may come and go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.errors import ShapeError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Slots = NDArray[np.intp]
State = dict[str, NDArray[Any]]
CHUNK = 64
"""Rows by which arrays grow and shrink, once there are so many..."""
LARGE_BYTES = 1 << 20
"""... or fewer, where rows are large."""


def resized(only: list[NDArray[Any]], rows: int) -> NDArray[Any]:
    """Return an array with its first ``rows`` rows, or with zeros behind those that it has.

    A copy of the largest array would count as much as all others together, so it grows and shrinks where it is,
    unless somebody else looks at it.

    Parameters
    ----------
    only
        The array; whoever calls gives it away, because numpy resizes only what has no second reference.
    """
    array = only.pop()
    try:
        array.resize((rows, *array.shape[1:]))
    except ValueError:
        new = np.zeros((rows, *array.shape[1:]), array.dtype)
        keep = min(rows, len(array))
        new[:keep] = array[:keep]
        return new
    return array


class Shelf:
    """An array with a row for those slots only that asked for one: what is large and needed by few, or not for long.

    Parameters
    ----------
    shape, dtype
        Of a row.
    fill
        What a row holds when it is lent.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type, fill: float) -> None:
        self.rows: NDArray[Any] = np.empty((0, *shape), dtype)
        """All rows, in no order; fetch it anew in every call."""
        self._fill = fill
        self._chunk = max(1, min(CHUNK, LARGE_BYTES // (np.empty(shape, dtype).nbytes or 1)))
        self._row = np.zeros(0, np.intp)
        self._slot: list[int] = []

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots; those beyond it must have no row."""
        more = max(0, capacity - len(self._row))
        self._row = np.concatenate([self._row[:capacity], np.full(more, -1, np.intp)])

    def has(self, slots: Slots) -> Bools:
        """Return which of the slots have a row."""
        return np.asarray(self._row[slots] >= 0)

    def at(self, slots: Slots) -> Slots:
        """Return where in ``rows`` the row of each slot is; all of them must have one."""
        return np.asarray(self._row[slots])

    def lend(self, slots: Slots) -> Slots:
        """Give a row to those of the slots that have none; return where the rows of all are."""
        new = slots[~self.has(slots)].tolist()
        first = len(self._slot)
        if first + len(new) > len(self.rows):
            self._make_room(first + len(new))
        self.rows[first : first + len(new)] = self._fill
        self._row[new] = np.arange(first, first + len(new))
        self._slot += new
        return self.at(slots)

    def take_back(self, slots: Slots) -> None:
        """Free the rows of those of the slots that have one."""
        for slot in slots[self.has(slots)].tolist():
            row, last = int(self._row[slot]), self._slot.pop()
            if last != slot:
                self.rows[row] = self.rows[len(self._slot)]
                self._row[last], self._slot[row] = row, last
            self._row[slot] = -1
        if len(self.rows) >= len(self._slot) + 2 * self._chunk:
            self._make_room(len(self._slot))

    def _make_room(self, rows: int) -> None:
        self.rows = resized([self.__dict__.pop("rows")], -(-rows // self._chunk) * self._chunk)


class SlotArrays:
    """Named arrays, one row for each series; grown, cleared, saved and restored together."""

    name: str

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._fills: dict[str, float] = {}
        self._shelves: dict[str, Shelf] = {}

    def declare(self, name: str, shape: tuple[int, ...] = (), dtype: type = np.float64, fill: float = 0.0) -> None:
        """Keep an array of ``shape`` for each series, filled with ``fill`` when its slot is cleared."""
        self._arrays[name] = np.empty((0, *shape), dtype)
        self._fills[name] = fill

    def declare_for_some(self, name: str, shape: tuple[int, ...], dtype: type, fill: float = 0.0) -> Shelf:
        """Keep an array of ``shape`` for those series that it is lent to; a cleared slot has none."""
        shelf = self._shelves[name] = Shelf(shape, dtype, fill)
        return shelf

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots, keeping what the present ones hold."""
        for name in list(self._arrays):
            old = len(self._arrays[name])
            self._arrays[name] = resized([self._arrays.pop(name)], capacity)
            self._arrays[name][old:] = self._fills[name]
        for shelf in self._shelves.values():
            shelf.resize(capacity)

    def clear(self, slots: Slots) -> None:
        """Forget all about the series in ``slots``."""
        for name, array in self._arrays.items():
            array[slots] = self._fills[name]
        for shelf in self._shelves.values():
            shelf.take_back(slots)

    def state(self, slot: int) -> State:
        """Return all that is kept of one series, as arrays of its own."""
        kept = {name: array[slot].copy() for name, array in self._arrays.items()}
        one = np.array([slot])
        for name, shelf in self._shelves.items():
            if shelf.has(one)[0]:
                kept[name] = shelf.rows[shelf.at(one)[0]].copy()
        return kept

    def check(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Raise :class:`ShapeError` unless ``state`` is what :meth:`state` of such an object gives."""
        lent = {name: shelf.rows for name, shelf in self._shelves.items() if name in state}
        for name, array in {**self._arrays, **lent}.items():
            saved = state.get(name)
            if saved is None or saved.shape != array.shape[1:] or saved.dtype != array.dtype:
                found = "missing" if saved is None else f"{saved.dtype}{saved.shape}"
                raise ShapeError(f"state {self.name}.{name} is {found}, not {array.dtype}{array.shape[1:]}")

    def restore(self, slot: int, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`state` gave; raise :class:`ShapeError` if it is of another kind."""
        self.check(state)
        for name, array in self._arrays.items():
            array[slot] = state[name]
        one = np.array([slot])
        for name, shelf in self._shelves.items():
            shelf.take_back(one)
            if name in state:
                place = shelf.lend(one)
                shelf.rows[place] = state[name]
