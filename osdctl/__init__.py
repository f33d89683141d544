"""osdctl, the command line client of osdetectord; all that it knows of the daemon is the D-Bus interface."""

from __future__ import annotations

VERSION = "0.1.0"
