"""The installed service on a real systemd: start, bus, policy, reload, kills."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from box import MANAGER, Box, until

from osdetectord import record

UNIT, DETECTOR = "osdetectord.service", "osdetectord-detector.service"
BAD = "/etc/osdetectord/conf.d/99-bad.yml"


@pytest.fixture
def running(box: Box) -> Iterator[Box]:
    """The box with the service up, and nothing watched before or after."""
    box.run("systemctl", "reset-failed", UNIT, DETECTOR, "osdetectord-detector.socket")
    box.run("systemctl", "start", UNIT)
    yield box
    for target in box.osdctl_json("list"):
        box.run("osdctl", "unwatch", str(target["id"]))


def specs(box: Box) -> set[str]:
    """Return what is watched."""
    return {target["spec"] for target in box.osdctl_json("list")}


def connected(box: Box) -> bool:
    """Return whether the daemon answers and its detector is connected."""
    done = box.try_run("osdctl", "--json=pretty", "status")
    return done.returncode == 0 and json.loads(done.stdout)["worker"] == "connected"


def links(box: Box) -> int:
    """Return how many programs the daemon has attached."""
    return box.run("sh", "-c", f"cat /proc/{box.main_pid(UNIT)}/fdinfo/*").count("link_type:")


def test_the_package_starts_the_service(box: Box) -> None:
    assert box.run("systemctl", "is-active", UNIT).strip() == "active"
    assert box.run("systemctl", "is-enabled", UNIT).strip() == "enabled"
    assert box.unit(UNIT, "NRestarts") == "0"


def test_ready_means_attached(running: Box) -> None:
    running.run("systemctl", "restart", UNIT)
    assert links(running) >= 3


def test_the_status_line_says_what_is_watched(running: Box) -> None:
    running.run("osdctl", "watch", "pid:1")
    until("pid 1 in the status", lambda: "watching 1 target (" in running.unit(UNIT, "StatusText"))


def test_the_worker_is_another_user_without_privileges(running: Box) -> None:
    until("the detector is connected", lambda: connected(running))
    pid = running.main_pid(DETECTOR)
    status = running.read(f"/proc/{pid}/status")
    assert re.search(r"^CapEff:\s*0+$", status, re.MULTILINE)
    assert re.search(r"^CapBnd:\s*0+$", status, re.MULTILINE)
    assert not re.search(r"^Uid:\s*0\b", status, re.MULTILINE)
    assert running.run("stat", "--format=%U %a", "/run/osdetectord-detector.sock").split() == ["root", "600"]


def test_the_daemon_holds_four_capabilities(running: Box) -> None:
    status = running.read(f"/proc/{running.main_pid(UNIT)}/status")
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert effective
    # linux/capability.h: DAC_READ_SEARCH 2, SYS_PTRACE 19, PERFMON 38, BPF 39
    assert int(effective[1], 16) == 1 << 2 | 1 << 19 | 1 << 38 | 1 << 39


def test_nobody_may_look_but_not_watch(running: Box) -> None:
    running.run("osdctl", "watch", "pid:1")
    nobody = ("runuser", "-u", "nobody", "--")
    assert "pid:1" in running.run(*nobody, "osdctl", "list")
    refused = running.try_run(*nobody, "osdctl", "watch", str(running.main_pid(UNIT)))
    assert refused.returncode == 4
    assert len(refused.stderr.splitlines()) == 1
    assert specs(running) == {"pid:1"}


def test_the_group_may_watch(running: Box) -> None:
    running.run("useradd", "--groups", "osdetector", "member")
    try:
        running.run("runuser", "-u", "member", "--", "osdctl", "watch", "--runtime", "pid:1")
        assert specs(running) == {"pid:1"}
    finally:
        running.run("userdel", "member")


def test_a_call_by_name_starts_the_service(running: Box) -> None:
    running.run("systemctl", "stop", UNIT)
    running.run("runuser", "-u", "nobody", "--", "busctl", "get-property", *MANAGER, "Version")
    assert running.run("systemctl", "is-active", UNIT).strip() == "active"


def test_a_stop_leaves_neither_worker_nor_socket_nor_directory(running: Box) -> None:
    until("the detector is connected", lambda: connected(running))
    running.run("systemctl", "stop", UNIT)
    for unit in (DETECTOR, "osdetectord-detector.socket"):
        until(f"{unit} is stopped", lambda unit=unit: running.unit(unit, "ActiveState") == "inactive")
    assert not running.exists("/run/osdetectord")
    assert not running.exists("/run/osdetectord-detector.sock")
    assert running.unit(UNIT, "Result") == "success"
    running.run("systemctl", "start", UNIT)


def test_watches_outlive_a_restart(running: Box) -> None:
    running.run("osdctl", "watch", "unit:dbus.service")
    running.run("osdctl", "watch", "--runtime", "pid:1")
    running.run("systemctl", "restart", UNIT)
    assert specs(running) == {"unit:dbus.service"}


def test_a_reload_returns_when_the_new_configuration_is_in_force(running: Box) -> None:
    running.run("osdctl", "watch", "pid:1")
    pid = running.main_pid(UNIT)
    running.write("/etc/osdetectord/conf.d/60-test.yml", "max_targets: 1\n")
    try:
        running.run("systemctl", "reload", UNIT)
        full = running.try_run("osdctl", "watch", "unit:dbus.service")
        assert (full.returncode, "1" in full.stderr) == (4, True)
    finally:
        running.run("rm", "/etc/osdetectord/conf.d/60-test.yml")
    running.run("systemctl", "reload", UNIT)
    running.run("osdctl", "watch", "unit:dbus.service")
    assert running.main_pid(UNIT) == pid


def test_a_bad_configuration_at_reload_keeps_the_old_one_and_says_so(running: Box) -> None:
    pid = running.main_pid(UNIT)
    running.write(BAD, "# comment\ninterval_s: soon\n")
    try:
        assert running.try_run("systemctl", "reload", UNIT).returncode != 0
    finally:
        running.run("rm", BAD)
    assert (running.main_pid(UNIT), running.unit(UNIT, "ActiveState")) == (pid, "active")
    told = running.records(f"MESSAGE_ID={record.CONFIG_REFUSED}")[-1]["MESSAGE"]
    for part in (BAD, "2", "interval_s", "soon", "number"):
        assert part in told
    assert "it had. It would" in running.run("journalctl", "-x", f"MESSAGE_ID={record.CONFIG_REFUSED}")
    running.run("systemctl", "reload", UNIT)


def test_a_bad_configuration_at_start_is_said_and_not_tried_again(running: Box) -> None:
    running.write(BAD, "interval_s: soon\n")
    try:
        assert running.try_run("systemctl", "restart", UNIT).returncode != 0
        assert running.unit(UNIT, "ActiveState") == "failed"
        assert f"{BAD}:1" in running.run("journalctl", "--unit", UNIT, "--lines=20", "--output=cat")
    finally:
        running.run("rm", BAD)
        running.run("systemctl", "start", UNIT)


def test_a_killed_worker_is_back_and_its_absence_is_told(running: Box) -> None:
    until("the detector is connected", lambda: connected(running))
    before, pid = len(running.records(f"MESSAGE_ID={record.WORKER_LOST}")), running.main_pid(DETECTOR)
    running.run("systemctl", "kill", "--signal=KILL", DETECTOR)
    until("the loss is told", lambda: len(running.records(f"MESSAGE_ID={record.WORKER_LOST}")) == before + 1)
    until("the detector is back", lambda: running.main_pid(DETECTOR) not in (0, pid) and connected(running))
    assert running.unit(UNIT, "NRestarts") == "0"


def test_a_killed_daemon_is_back_with_its_watches_and_says_how_long_it_was_blind(running: Box) -> None:
    running.run("osdctl", "watch", "unit:dbus.service")
    before, pid = len(running.records(f"MESSAGE_ID={record.BLIND_TIME}")), running.main_pid(UNIT)
    running.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", UNIT)
    until("the service is back", lambda: running.main_pid(UNIT) not in (0, pid))
    until("the service is ready", lambda: running.unit(UNIT, "ActiveState") == "active")
    told = until("the blind time is told", lambda: running.records(f"MESSAGE_ID={record.BLIND_TIME}")[before:])
    assert 0 < float(told[0]["OSDETECTOR_BLIND_S"]) < 60
    assert "unit:dbus.service" in told[0]["MESSAGE"]
    assert specs(running) == {"unit:dbus.service"}
    assert links(running) >= 3


def test_records_go_on_after_a_restart_of_the_journal(running: Box) -> None:
    running.run("systemctl", "restart", "systemd-journald")
    running.run("osdctl", "watch", "unit:systemd-journald.service")
    until(
        "the watch is in the journal",
        lambda: any("unit:systemd-journald.service" in r["MESSAGE"] for r in running.records(f"_SYSTEMD_UNIT={UNIT}")),
    )
