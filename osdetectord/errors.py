"""Every error that a user or another process may see, each with its D-Bus name."""

from __future__ import annotations


class OsdetectorError(Exception):
    """Base of our own errors; the message names the thing and the value, lower case, no stop."""

    name = "Failed"
    """Last part of the D-Bus error name, after ``org.osdetector1.Error.``."""


class NoSuchProcess(OsdetectorError):
    """There is no such process, or it ended during the call."""

    name = "NoSuchProcess"


class NoSuchUnit(OsdetectorError):
    """The service manager knows no such unit."""

    name = "NoSuchUnit"


class NoSuchUser(OsdetectorError):
    """There is no such user."""

    name = "NoSuchUser"


class NoSuchSymbol(OsdetectorError):
    """The binary has no such function."""

    name = "NoSuchSymbol"


class NoSuchTarget(OsdetectorError):
    """Nothing of that number or specification is watched (or no such anomaly, probe, trace)."""

    name = "NoSuchTarget"


class TooManyTargets(OsdetectorError):
    """The configured bound on targets or processes is reached."""

    name = "TooManyTargets"


class BudgetExceeded(OsdetectorError):
    """A rate budget would be, or was, exceeded."""

    name = "BudgetExceeded"


class Unsupported(OsdetectorError):
    """This kernel, machine or installation cannot do that; the message says what lacks."""

    name = "Unsupported"


class InvalidArgument(OsdetectorError):
    """The request itself is wrong."""

    name = "InvalidArgument"


class NotAuthorized(OsdetectorError):
    """The caller may not do that."""

    name = "NotAuthorized"


class ConfigError(InvalidArgument):
    """A configuration value is wrong.

    Parameters
    ----------
    key
        Dotted path of the key, for example ``collect.interval_s``; empty where the file as a whole is wrong.
    value
        What stands there.
    expected
        What should stand there, a phrase.
    file, line
        Where, as far as the raiser knows it; line is 1-based, 0 where unknown.
    """

    def __init__(self, key: str, value: object, expected: str, file: str = "", line: int = 0) -> None:
        self.key, self.value, self.expected, self.file, self.line = key, value, expected, file, line
        where = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        what = f"{key} is {value!r}, expected {expected}" if key else f"{value}, expected {expected}"
        super().__init__(where + what)

    def at(self, file: str, line: int) -> ConfigError:
        """Return the same error with the place it was found at."""
        return ConfigError(self.key, self.value, self.expected, file, line)


class LoadError(Unsupported):
    """The BPF programs could not be compiled, loaded or attached."""


class WireError(OsdetectorError):
    """The peer on the detector's socket sent something that is not a frame."""


class ShapeError(OsdetectorError, ValueError):
    """An array has not the shape that its contract states."""
