"""A unit is resolved to its processes through the service manager."""

# The annotations of dbus-next's interfaces are D-Bus signatures.
# ruff: noqa: F821, UP037

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from dbus_next import DBusError
from dbus_next.aio import MessageBus
from dbus_next.constants import PropertyAccess
from dbus_next.service import ServiceInterface, dbus_property, method
from private_bus import PrivateBus

from osdetectord.bus.units import UnitView
from osdetectord.errors import NoSuchUnit, Unsupported

PATH = "/org/freedesktop/systemd1"
UNITS = {
    "redis-server.service": (
        "redis_2dserver_2eservice",
        "loaded",
        "active",
        1009,
        "/system.slice/redis-server.service",
    ),
    "redis.service": ("redis_2dserver_2eservice", "loaded", "active", 1009, "/system.slice/redis-server.service"),
    "stopped.service": ("stopped_2eservice", "loaded", "inactive", 0, ""),
    "none.service": ("none_2eservice", "not-found", "inactive", 0, ""),
}


def _manager() -> ServiceInterface:
    class Manager(ServiceInterface):
        @method()
        def LoadUnit(self, name: "s") -> "o":
            if name not in UNITS:
                raise DBusError("org.freedesktop.systemd1.LoadFailed", f"Unit {name} failed to load.")
            return f"{PATH}/unit/{UNITS[name][0]}"

    return Manager("org.freedesktop.systemd1.Manager")


def _unit(name: str, load: str, active: str, pid: int, group: str) -> list[ServiceInterface]:
    read = PropertyAccess.READ

    class Unit(ServiceInterface):
        @dbus_property(access=read)
        def Id(self) -> "s":
            return name

        @dbus_property(access=read)
        def LoadState(self) -> "s":
            return load

        @dbus_property(access=read)
        def ActiveState(self) -> "s":
            return active

    class Service(ServiceInterface):
        @dbus_property(access=read)
        def MainPID(self) -> "u":
            return pid

        @dbus_property(access=read)
        def ControlGroup(self) -> "s":
            return group

    return [Unit("org.freedesktop.systemd1.Unit"), Service("org.freedesktop.systemd1.Service")]


@pytest.fixture
def systemd(bus: PrivateBus) -> Iterator[None]:
    """Stand in for systemd: the few members that are asked for."""
    ready, loop = threading.Event(), asyncio.new_event_loop()
    end = asyncio.Event()

    async def serve() -> None:
        service = await MessageBus(bus_address=bus.address).connect()
        service.export(PATH, _manager())
        for name, (path, *state) in UNITS.items():
            if name != "redis.service":
                for interface in _unit(name, *state):
                    service.export(f"{PATH}/unit/{path}", interface)
        await service.request_name("org.freedesktop.systemd1")
        ready.set()
        await end.wait()
        service.disconnect()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    yield
    loop.call_soon_threadsafe(end.set)
    thread.join(10)


@pytest.mark.parametrize("asked", ["redis-server.service", "redis.service"])
def test_a_running_unit_has_a_process_and_a_control_group(served, systemd, asked):
    assert served.run(served.server.unit_processes(asked)) == UnitView(
        "redis-server.service", 1009, "/system.slice/redis-server.service", "active"
    )


def test_a_unit_that_is_not_running_is_known_too(served, systemd):
    assert served.run(served.server.unit_processes("stopped.service")) == UnitView("stopped.service", 0, "", "inactive")


@pytest.mark.parametrize("unit", ["none.service", "refused.service", "nonsense", "", "a/b.service", "x\ny.service"])
def test_a_unit_that_is_not_there_is_said_so(served, systemd, unit):
    with pytest.raises(NoSuchUnit, match="no unit"):
        served.run(served.server.unit_processes(unit))


@pytest.mark.parametrize("unit", ["boot.target", "fstrim.timer"])
def test_a_unit_that_has_no_processes_is_said_so(served, systemd, unit):
    with pytest.raises(Unsupported, match=f"{unit} has no processes"):
        served.run(served.server.unit_processes(unit))


def test_a_bus_without_systemd_is_said_so(served):
    with pytest.raises(Unsupported, match="no systemd on this bus"):
        served.run(served.server.unit_processes("redis.service"))
