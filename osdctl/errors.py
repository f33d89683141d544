"""What can go wrong for the user: one line, what to do about it, and the exit status."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Exit status of osdctl; ``run`` and ``detect`` end with that of the program they run."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    REFUSED = 4


class OsdctlError(Exception):
    """An error to tell in one line.

    Parameters
    ----------
    message
        What happened; names the thing and the value, lower case, no stop.
    hint
        What the user can do, or nothing.
    """

    status: int = Status.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class UsageError(OsdctlError):
    """The command line is wrong."""

    status = Status.USAGE


class NotRunning(OsdctlError):
    """There is no daemon to talk to."""

    status = Status.NOT_RUNNING


class Refused(OsdctlError):
    """The daemon or the bus refused."""

    status = Status.REFUSED


class NoSuch(Refused):
    """There is no such thing."""
