"""The watchdog is honest: whichever part stands still, the service is restarted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from box import ROOT, Box, until

UNIT = "osdetectord.service"
HANG = "/usr/local/lib/osdetectord-test/hang.py"
DROP_IN = "/run/systemd/system/osdetectord.service.d/50-watchdog.conf"


@pytest.fixture
def short_watchdog(box: Box) -> Iterator[Callable[[str], None]]:
    """A function that starts the service with a watchdog of a few seconds and with this line in its unit."""

    def start(line: str) -> None:
        box.write(DROP_IN, f"[Service]\nWatchdogSec=4\n{line}\n")
        box.run("systemctl", "daemon-reload")
        box.run("systemctl", "reset-failed", UNIT)
        box.run("systemctl", "restart", UNIT)

    yield start
    box.run("rm", DROP_IN)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", UNIT)


def restarts(box: Box) -> int:
    """Return how often the service was restarted by itself."""
    return int(box.unit(UNIT, "NRestarts"))


def watchdog_timeouts(box: Box) -> int:
    """Return how often systemd said that the watchdog of the service ran out."""
    return box.run("journalctl", "--quiet", "--unit", UNIT, "--output=cat").count("Watchdog timeout")


@pytest.mark.parametrize("part", ["loop", "collector"])
def test_a_hang_of_a_part_ends_in_a_restart(box: Box, short_watchdog: Callable[[str], None], part: str) -> None:
    before = watchdog_timeouts(box)
    # where the unit's own /tmp does not hide it, wherever this checkout is
    box.write(HANG, (ROOT / "tests" / "system" / "hang.py").read_text())
    short_watchdog(f"ExecStart=\nExecStart=/usr/bin/python3 {HANG} {part}")
    until("a restart", lambda: restarts(box) >= 1, timeout_s=60)
    assert watchdog_timeouts(box) > before


def test_a_hang_of_the_bus_ends_in_a_restart(box: Box, short_watchdog: Callable[[str], None]) -> None:
    before = watchdog_timeouts(box)
    short_watchdog("")
    box.run("systemctl", "kill", "--signal=STOP", "dbus.service")
    try:
        until("the watchdog", lambda: watchdog_timeouts(box) > before, timeout_s=60)
    finally:
        box.run("systemctl", "kill", "--signal=CONT", "dbus.service")
    until("a restart", lambda: restarts(box) >= 1 and box.unit(UNIT, "ActiveState") == "active", timeout_s=60)


@pytest.mark.timeout(180)
def test_without_a_hang_there_is_no_restart(box: Box, short_watchdog: Callable[[str], None]) -> None:
    short_watchdog("")
    pid = box.main_pid(UNIT)
    box.run("osdctl", "watch", "--runtime", "pid:1")
    box.run("sleep", "12")
    assert (box.main_pid(UNIT), restarts(box)) == (pid, 0)
