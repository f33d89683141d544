"""Happenings: what went on around the targets lately, told beside an anomaly because it may be its cause."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

MOST = 512
ALIKE_US = 10_000_000
"""What happens again within so long is counted, not listed."""
_LOOK_BACK = 16


@dataclass(slots=True)
class Happening:
    """One kind of thing that happened, as often as it did within a few seconds.  Times are wall-clock microseconds.

    Parameters
    ----------
    kind
        ``started``, ``executed``, ``ended``, ``watched``, ``unwatched``, ``attached``, ``detached``, ``reloaded`` or
        ``detector``.
    what
        Of what, for people: a command, how it ended, why.
    pid
        Of the last one; 0 where it is not about a process.
    target
        Number of the target, 0 where it is about none.
    """

    time_us: int
    kind: str
    what: str
    pid: int = 0
    target: int = 0
    count: int = 1
    last_us: int = 0


class Happenings:
    """The last of them, in a bounded number."""

    def __init__(self) -> None:
        self._all: deque[Happening] = deque(maxlen=MOST)

    def note(self, time_us: int, kind: str, what: str, pid: int = 0, target: int = 0) -> None:
        """Take one in."""
        for known, _ in zip(reversed(self._all), range(_LOOK_BACK), strict=False):
            if (known.kind, known.what, known.target) == (kind, what, target) and time_us - known.time_us < ALIKE_US:
                known.count, known.pid, known.last_us = known.count + 1, pid, time_us
                return
        self._all.append(Happening(time_us, kind, what, pid, target, 1, time_us))

    def between(self, since_us: int, until_us: int) -> Iterator[Happening]:
        """Yield what happened within the time, oldest first."""
        return (one for one in self._all if one.last_us >= since_us and one.time_us <= until_us)
