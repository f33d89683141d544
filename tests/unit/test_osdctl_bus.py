"""The connection of osdctl: which bus, and what each D-Bus error means to the user."""

from __future__ import annotations

import asyncio

import pytest
from dbus_next.signature import Variant

from osdctl import bus, called
from osdctl.errors import NoSuch, NotRunning, OsdctlError, Refused, UsageError
from osdctl.manager import MANAGER, Manager

ERROR = "org.osdetector1.Error."
DBUS = "org.freedesktop.DBus.Error."


@pytest.mark.parametrize(
    ("name", "kind", "status"),
    [
        (DBUS + "ServiceUnknown", NotRunning, 3),
        (DBUS + "NameHasNoOwner", NotRunning, 3),
        (DBUS + "NoReply", NotRunning, 3),
        (DBUS + "Spawn.ChildExited", NotRunning, 3),
        (DBUS + "AccessDenied", Refused, 4),
        (ERROR + "NotAuthorized", Refused, 4),
        (ERROR + "NoSuchProcess", NoSuch, 4),
        (ERROR + "NoSuchUnit", NoSuch, 4),
        (ERROR + "NoSuchTarget", NoSuch, 4),
        (DBUS + "UnknownObject", NoSuch, 4),
        (ERROR + "TooManyTargets", Refused, 4),
        (ERROR + "BudgetExceeded", Refused, 4),
        (ERROR + "InvalidArgument", UsageError, 2),
        (ERROR + "Unsupported", Refused, 4),
        (ERROR + "Failed", OsdctlError, 1),
        (DBUS + "UnknownMethod", OsdctlError, 1),
        ("com.example.Odd", OsdctlError, 1),
    ],
)
def test_every_bus_error_has_its_exit_status(name, kind, status):
    error = bus.error_of(name, "no process 999983")

    assert type(error) is kind
    assert error.status == status


def test_variants_are_unpacked_at_any_depth():
    value = {"a": Variant("aa{sv}", [{"b": Variant("(sv)", ["c", Variant("u", 7)])}])}

    assert bus.plain(value) == {"a": [{"b": ["c", 7]}]}


def test_a_given_bus_is_the_only_one():
    assert bus.places({"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/x"}) == (("unix:path=/x", "unix:path=/x"),)


def test_the_embedded_bus_is_looked_at_after_the_systems(monkeypatch, tmp_path):
    monkeypatch.setattr(bus, "EMBEDDED_SOCKET", tmp_path / "bus")
    assert [place for _, place in bus.places({})] == ["system bus"]
    (tmp_path / "bus").touch()

    assert [address for address, _ in bus.places({})] == [
        "unix:path=/run/dbus/system_bus_socket",
        f"unix:path={tmp_path}/bus",
    ]


class Pages:
    """A connection that gives anomalies by the page, as the daemon does."""

    place = "test"

    def __init__(self, count: int, most: int) -> None:
        self.rows = [self.row(number) for number in range(count, 0, -1)]
        self.most = most
        self.calls = 0

    @staticmethod
    def row(number: int) -> dict[str, object]:
        return {
            "Path": f"/org/osdetector1/anomaly/{number}", "Target": "/org/osdetector1/target/1", "Spec": "pid:1",
            "Pid": 1, "Comm": "x", "State": "closed", "Kind": "anomaly", "Opened": 1000 + number // 3, "Closed": 2000,
            "Score": 2.0, "PValue": 0.5, "Detectors": [], "Metrics": [], "Message": "", "Recurrence": 0, "Useful": "",
        }  # fmt: skip

    async def call(self, path, interface, member, signature="", body=(), *, may_start=False, may_ask=False):
        assert (interface, member) == (MANAGER, "ListAnomalies")
        self.calls += 1
        wanted = {key: value for key, (_, value) in body[0].items()}
        assert wanted["limit"] <= self.most
        until = wanted.get("until_us", 1 << 62)
        return [[row for row in self.rows if row["Opened"] <= until][: wanted["limit"]]]


def listed(pages: Pages, limit: int | None) -> list[int]:
    async def connect():
        return pages

    return [anomaly.id for anomaly in asyncio.run(Manager(connect).anomalies(limit=limit))]


@pytest.mark.parametrize("count", [0, 7, 1000, 1009, 3001])
def test_all_anomalies_come_page_by_page_and_each_once(count):
    pages = Pages(count, 1000)

    assert listed(pages, None) == list(range(count, 0, -1))


@pytest.mark.parametrize(("limit", "calls"), [(1, 1), (997, 1), (2003, 3)])
def test_a_limit_asks_for_no_more_than_it_needs(limit, calls):
    pages = Pages(3001, 1000)

    assert listed(pages, limit) == list(range(3001, 3001 - limit, -1))
    assert pages.calls == calls


class Signals:
    place = "test"

    async def subscribe(self):
        async def stream():
            yield bus.Signal("/org/osdetector1", MANAGER, "SomethingNew", ())
            yield bus.Signal("/org/osdetector1", MANAGER, "TargetExited", ("/org/osdetector1/target/1", {"Pid": 7}))
            yield bus.Signal("/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", ("n", ":1.1", ""))

        return stream()


def test_signals_of_a_newer_daemon_are_passed_over():
    async def kinds():
        async def connect():
            return Signals()

        return [event.kind async for event in await Manager(connect).events()]

    assert asyncio.run(kinds()) == ["exited", "stopped"]


@pytest.mark.parametrize("said", ["AddProbe looks into other processes: it needs root", "Watch needs root: no group"])
def test_a_refusal_names_no_method_and_no_group_that_is_not_there(said, monkeypatch):
    monkeypatch.setattr(called, "GROUP", "no-such-group-1009")
    error = bus.error_of(ERROR + "NotAuthorized", said)

    assert error.message == "this " + said.partition(" ")[2]
    assert "adduser" not in error.hint and "be root" in error.hint
