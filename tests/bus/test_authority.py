"""Who may look into other processes: root, and those to whom the real polkit gives leave."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_core import FakeCore
from private_bus import AS_MEMBER, AS_NOBODY, OPEN_POLICY, SHIPPED, PrivateBus, Served, wait_until

POLKITD = "/usr/lib/polkit-1/polkitd"
POLKIT_POLICY = Path("/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf")
AS_GAMES = ("setpriv", "--reuid=games", "--regid=games", "--clear-groups")
ALLOWS_NOBODY = """
polkit.addRule(function(action, subject) {
    if (action.id == "org.osdetector1.trace" && subject.user == "nobody")
        return polkit.Result.YES;
});
"""
LOOKS = [
    ("AddProbe", "sa{sv}", "libc:malloc", "1", "pid", "u", "1009"),
    ("AddTrace", "sa{sv}", "f(n: int)", "1", "pid", "u", "1009"),
    ("RemoveProbe", "o", "/org/osdetector1/probe/1"),
    ("RemoveTrace", "o", "/org/osdetector1/trace/2"),
    ("MeasureAllocationPrice",),
    ("AddAllocations", "a{sv}", "1", "pid", "u", "1009"),
    ("RemoveAllocations", "o", "/org/osdetector1/allocations/3"),
]
FOLLOWS = [
    ("/org/osdetector1/probe/1", "org.osdetector1.Probe", "Follow"),
    ("/org/osdetector1/trace/2", "org.osdetector1.Trace", "Follow"),
    ("/org/osdetector1/allocations/3", "org.osdetector1.Allocations", "Top"),
]


@pytest.fixture
def polkit(bus: PrivateBus) -> Iterator[subprocess.Popen[bytes]]:
    """The machine's polkitd on the private bus, with the shipped action and one rule, and no others."""
    directory = bus.directory / "polkit"
    for name in ("actions", "rules"):
        (directory / name).mkdir(parents=True)
    shutil.copy(SHIPPED.parent / "org.osdetector1.policy", directory / "actions")
    (directory / "rules/10-test.rules").write_text(ALLOWS_NOBODY)
    shutil.copy(POLKIT_POLICY, bus.directory / "policies")
    bus.busctl("call", "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "ReloadConfig")
    script = (
        f"mount --bind {directory}/actions /usr/share/polkit-1/actions && "
        f"mount --bind {directory}/rules /etc/polkit-1/rules.d && exec {POLKITD} --no-debug"
    )
    environment = {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": bus.address}
    daemon = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    names = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameHasOwner")
    wait_until(lambda: "true" in bus.busctl("call", *names, "s", "org.freedesktop.PolicyKit1").stdout, 20)
    yield daemon
    daemon.terminate()
    daemon.wait()


def asked(core: FakeCore) -> list[object]:
    return [call[0] for call in core.asked if call[0] != "list_anomalies"]


@pytest.mark.parametrize("words", LOOKS, ids=lambda words: words[0])
def test_root_may_without_polkit(bus, served, words):
    assert bus.call(*words).returncode == 0


@pytest.mark.parametrize("user", [AS_NOBODY, AS_MEMBER], ids=["nobody", "member of the group"])
def test_without_polkit_only_root_may(bus, served, core, user):
    for words in LOOKS:
        done = bus.call(*words, user=user)
        assert done.returncode == 1
        assert f"{words[0]} looks into other processes: it needs root or leave of polkit" in done.stderr
    for path, interface, method in FOLLOWS:
        done = bus.call(method, "u", "0", path=path, interface=interface, user=user)
        assert f"{method} looks into other processes" in done.stderr
    assert asked(core) == []


def test_polkit_s_leave_is_enough(bus, served, core, polkit):
    for path, interface, method in FOLLOWS:
        assert bus.call(method, "u", "7", path=path, interface=interface, user=AS_NOBODY).returncode == 0
    for words in LOOKS:
        done = bus.call(*words, user=AS_NOBODY)
        assert done.returncode == 0, done.stderr
    assert asked(core) == [
        *("follow", "follow", "top", "add_probe", "add_trace", "remove", "remove"),
        *("price", "add_allocations", "remove_allocations"),
    ]
    assert core.asked[-1][-1].uid != 0


def test_whom_polkit_would_ask_for_a_password_is_refused_where_nobody_can_be_asked(bus, served, core, polkit):
    for words in LOOKS:
        done = bus.call(*words, user=AS_GAMES)
        assert done.returncode == 1
        assert "it wants a password, and nobody was there to ask for it" in done.stderr, done.stderr
    assert asked(core) == []


def test_leave_to_trace_is_no_leave_to_watch(bus, served, polkit):
    assert bus.call("Watch", "sa{sv}", "1009", "0", user=AS_NOBODY).returncode == 1


def test_an_open_policy_of_the_bus_opens_nothing():
    core = FakeCore()
    with PrivateBus(OPEN_POLICY) as bus, Served(core, bus.address) as served:
        served.run(served.server.start())
        for words in LOOKS:
            assert "needs root" in bus.call(*words, user=AS_NOBODY).stderr
    assert asked(core) == []


def test_options_come_to_the_daemon_as_what_they_mean(bus, served, core):
    options = ["target", "o", "/org/osdetector1/target/1", "children", "b", "false", "budget", "u", "101"]
    messages = ["entry", "s", "in", "return", "s", "out"]
    assert bus.call("AddTrace", "sa{sv}", ":f", "5", *options, *messages).returncode == 0

    assert core.asked[-1][:3] == (
        "add_trace",
        ":f",
        {"target": 1, "children": False, "budget": 101, "entry": "in", "return": "out"},
    )


def test_lines_are_never_broadcast(bus, served):
    """A signal would show one process's memory to every user of the bus."""
    for path, *_ in FOLLOWS:
        text = bus.call("Introspect", path=path, interface="org.freedesktop.DBus.Introspectable").stdout
        assert text.count("<signal") == text.count("PropertiesChanged") > 0
