"""Losses: what could not be measured, kept or told, counted by cause and said from time to time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from osdetectord import record
from osdetectord.record import Record

TOLD_EVERY_S = 300.0
"""Losses that go on are told no more often."""
FRESH_S = 1.0
"""For so long what was counted is not counted again."""


class Losses:
    """All that was lost since start.

    Parameters
    ----------
    sources
        Each tells what it lost so far, by cause.
    """

    def __init__(self, *sources: Callable[[], Mapping[str, int]]) -> None:
        self._sources = sources
        self._before: dict[str, int] = {}
        self._told_s = -TOLD_EVERY_S
        self._counts: dict[str, int] = {}
        self._counted_s = -FRESH_S

    def counts(self) -> dict[str, int]:
        """Return what was lost up to :data:`FRESH_S` ago, by cause.

        To ask costs half a millisecond and may wait for a tick that is under way, and any user may ask again and again.
        """
        now_s = time.monotonic()
        if now_s - self._counted_s >= FRESH_S:
            self._counts = {cause: count for source in self._sources for cause, count in source().items()}
            self._counted_s = now_s
        return dict(self._counts)

    def news(self) -> Record | None:
        """Return the record of what was lost since the last one, if it is time for one."""
        now_s = time.monotonic()
        if now_s - self._told_s < TOLD_EVERY_S:
            return None
        lost = self.counts()
        more = {cause: count - self._before.get(cause, 0) for cause, count in lost.items()}
        grown = {cause: count for cause, count in more.items() if count > 0}
        if not grown:
            return None
        self._before, self._told_s = lost, now_s
        text = ", ".join(f"{count} x {cause}" for cause, count in sorted(grown.items()))
        return Record(f"lost: {text}", record.WARNING, {"MESSAGE_ID": record.LOSSES})
