"""An event of a traced function: its entry or its return, with the values that its registers held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RESULT = 6
"""Position of the result in ``Event.values``, after six arguments."""

TEXTS = 4
"""Strings that are read of one event."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string as it was read: its bytes, or None where the page was not in memory; whether there is more of it."""

    data: bytes | None
    more: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Entry into or return from a traced function.

    Parameters
    ----------
    cookie
        Of the attachment.
    time_ns, entered_ns
        CLOCK_MONOTONIC, of the event and of the entry that it belongs to.
    pid, tid, depth
        Who, and how many calls of the function were under way in the thread before this one.
    returned
        Whether it is the return.
    values
        Six arguments and the result, as the registers held them.
    texts
        The strings that were read, by position in ``values``.
    """

    cookie: int
    time_ns: int
    entered_ns: int
    pid: int
    tid: int
    depth: int
    returned: bool
    values: tuple[int, ...]
    texts: Mapping[int, Text]
