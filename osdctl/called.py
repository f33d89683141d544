"""How osdctl is called here, for hints that can be typed as they stand: in a checkout it is ``sudo ./run``."""

from __future__ import annotations

import grp
import os
import re
from pathlib import Path

CHECKOUT = (Path(__file__).parents[1] / "run").is_file()
"""Whether this is a checkout and not an installed package."""
VARIABLE = "OSDCTL_CALLED"
"""Set by ``./run`` where there is no osdctl but its own."""

GROUP = "osdetector"
"""Who is in it may steer the daemon."""

LOG = "/run/osdetectord/log"
"""Where the daemon of ``./run`` writes instead of the journal."""

_JOURNAL = re.compile(r"journalctl -u osdetectord[\w-]*")
_MANUAL = re.compile(r"man (osdctl|osdetectord)\b")
_SECTIONS = {"osdctl": 1, "osdetectord": 8}
_OURSELVES = re.compile(r"(?<![\w/.-])(?:sudo )?osdctl (?=[a-z]|--|\.\.\.)(?!and )")


def here(text: str) -> str:
    """Return a hint with the commands in it as they are called here, where the manual and the log are."""
    called = os.environ.get(VARIABLE)
    if not called:
        return text
    text = _JOURNAL.sub(LOG, text)
    text = _MANUAL.sub(lambda found: f"man docs/man/{found[1]}.{_SECTIONS[found[1]]}", text)
    return _OURSELVES.sub(lambda _: f"{called} ", text)


def how_to_start(systemd: bool) -> str:
    """Return the hint that says how to start the daemon."""
    command = "sudo osdetectord"
    if CHECKOUT:
        command = "sudo ./run watch PID"
    elif systemd:
        command = "systemctl start osdetectord"
    return f"start it with: {command}"


def how_to_be_allowed() -> str:
    """Return the hint for somebody whom the daemon refused; the group comes with the package."""
    try:
        grp.getgrnam(GROUP)
    except KeyError:
        return here("be root: sudo osdctl ...")
    return f"be root or in the group {GROUP}: sudo adduser $USER {GROUP}, then log in again"
