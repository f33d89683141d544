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
    """A configuration value is wrong; says file, line, key, value and what was expected."""


class LoadError(Unsupported):
    """The BPF programs could not be compiled, loaded or attached."""


class WireError(OsdetectorError):
    """The peer on the detector's socket sent something that is not a frame."""


class ShapeError(OsdetectorError, ValueError):
    """An array has not the shape that its contract states."""
