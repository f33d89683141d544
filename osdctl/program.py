"""The daemon's own programs, run where a task is theirs: reading the configuration, detecting offline."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from osdctl.errors import OsdctlError

PYTHON = "/usr/bin/python3"
PACKAGE = "osdetectord"
_PROBE = "import importlib.util, sys; sys.exit(0 if importlib.util.find_spec(sys.argv[1]) else 3)"


def daemon() -> list[str]:
    """Return the daemon's command: beside osdctl, in PATH, or as a module."""
    beside = Path(sys.argv[0]).resolve().with_name(PACKAGE)
    if beside.is_file():
        return [str(beside)]
    found = shutil.which(PACKAGE)
    return [found] if found else module(PACKAGE)


def module(name: str) -> list[str]:
    """Return the command that runs a module of the daemon's package.

    Raises
    ------
    OsdctlError
        If the package is not installed.
    """
    if not has_module(name):
        raise OsdctlError(f"{name} is not installed here", f"install it with: apt install {PACKAGE}")
    return [PYTHON, "-m", name]


def has_module(name: str) -> bool:
    """Whether the distribution's Python finds a module, asked without loading it here."""
    package = name.partition(".")[0]
    for asked in dict.fromkeys((package, name)):
        try:
            probe = subprocess.run([PYTHON, "-c", _PROBE, asked], check=False, capture_output=True)
        except OSError:
            return False
        if probe.returncode != 0:
            return False
    return True


def run(command: Sequence[str], words: Sequence[str]) -> int:
    """Run it on our own input and output and return its exit status."""
    try:
        status = subprocess.run([*command, *words], check=False).returncode
    except OSError as error:
        raise OsdctlError(f"cannot run {command[0]}: {(error.strerror or str(error)).lower()}") from error
    return status if status >= 0 else 128 - status
