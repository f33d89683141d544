"""The service manager hears what sd_notify(3) promises, and silence is no error."""

import os
import socket

import pytest

from osdetectord.notify import Notifier


@pytest.fixture
def manager(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield lambda: server.recv(4096).decode().splitlines()


def test_each_state_is_said(manager):
    notifier = Notifier()
    notifier.ready("watching 3 targets")
    assert manager() == ["READY=1", "STATUS=watching 3 targets"]
    notifier.status("learning")
    assert manager() == ["STATUS=learning"]
    notifier.reloading()
    first, second = manager()
    assert first == "RELOADING=1" and int(second.removeprefix("MONOTONIC_USEC=")) > 0
    notifier.alive()
    assert manager() == ["WATCHDOG=1"]
    notifier.stopping()
    assert manager() == ["STOPPING=1", "STATUS=stopping"]


def test_without_a_manager_nothing_happens(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    Notifier().ready("alone")


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", None, 30.0),
        ("30000000", "own", 30.0),
        ("30000000", "1", None),
        ("0", None, None),
        ("", None, None),
        ("x", None, None),
    ],
)
def test_the_watchdogs_time_is_ours_only(monkeypatch, usec, pid, seconds):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert Notifier().watchdog_s == seconds
