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


class SlotArrays:
    """Named arrays, one row for each series; grown, cleared, saved and restored together."""

    name: str

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}
        self._fills: dict[str, float] = {}

    def declare(self, name: str, shape: tuple[int, ...] = (), dtype: type = np.float64, fill: float = 0.0) -> None:
        """Keep an array of ``shape`` for each series, filled with ``fill`` when its slot is cleared."""
        self._arrays[name] = np.empty((0, *shape), dtype)
        self._fills[name] = fill

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def resize(self, capacity: int) -> None:
        """Make room for ``capacity`` slots, keeping what the present ones hold."""
        for name, old in self._arrays.items():
            new = np.full((capacity, *old.shape[1:]), self._fills[name], old.dtype)
            keep = min(capacity, len(old))
            new[:keep] = old[:keep]
            self._arrays[name] = new

    def clear(self, slots: Slots) -> None:
        """Forget all about the series in ``slots``."""
        for name, array in self._arrays.items():
            array[slots] = self._fills[name]

    def state(self, slot: int) -> State:
        """Return all that is kept of one series, as arrays of its own."""
        return {name: array[slot].copy() for name, array in self._arrays.items()}

    def check(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Raise :class:`ShapeError` unless ``state`` is what :meth:`state` of such an object gives."""
        for name, array in self._arrays.items():
            saved = state.get(name)
            if saved is None or saved.shape != array.shape[1:] or saved.dtype != array.dtype:
                found = "missing" if saved is None else f"{saved.dtype}{saved.shape}"
                raise ShapeError(f"state {self.name}.{name} is {found}, not {array.dtype}{array.shape[1:]}")

    def restore(self, slot: int, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what :meth:`state` gave; raise :class:`ShapeError` if it is of another kind."""
        self.check(state)
        for name, array in self._arrays.items():
            array[slot] = state[name]
