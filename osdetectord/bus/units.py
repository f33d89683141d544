"""Which processes a unit of systemd has, asked of the service manager."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from osdetectord.bus.connection import CallError, Connection
from osdetectord.errors import NoSuchUnit, Unsupported

SYSTEMD = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_UNIT = f"{SYSTEMD}.Unit"
# systemd.unit(5): the types that have a control group
_WITH_PROCESSES = {"service", "scope", "slice", "socket", "mount", "swap"}
_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\@-]*)?\.([a-z]+)")
_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class UnitView:
    """A unit.

    Parameters
    ----------
    name
        Its own name, where an alias was asked for.
    main_pid
        Main process of a service, 0 where there is none.
    control_group
        Path below the root of the control groups, empty where it is not running.
    active_state
        ``active``, ``inactive``, ``failed`` ...
    """

    name: str
    main_pid: int
    control_group: str
    active_state: str


async def unit_processes(connection: Connection, unit: str) -> UnitView:
    """Return what the service manager knows of a unit, running or not.

    Raises
    ------
    NoSuchUnit
        If no unit of that name is installed or running.
    Unsupported
        If a unit of that type has no processes, or there is no systemd on this bus.
    """
    match = _NAME.fullmatch(unit)
    if match is None or len(unit) > 255:
        raise NoSuchUnit(f"no unit {unit:.255}")
    kind = match[2]
    if kind not in _WITH_PROCESSES:
        raise Unsupported(f"{unit} has no processes: a unit of type {kind}")
    try:
        (path,) = await _ask(connection, _PATH, f"{SYSTEMD}.Manager", "LoadUnit", unit)
        load_state = await _get(connection, path, _UNIT, "LoadState")
        if load_state == "not-found":
            raise NoSuchUnit(f"no unit {unit}")
        own = f"{SYSTEMD}.{kind.capitalize()}"
        return UnitView(
            name=await _get(connection, path, _UNIT, "Id"),
            main_pid=await _get(connection, path, own, "MainPID") if kind == "service" else 0,
            control_group=await _get(connection, path, own, "ControlGroup"),
            active_state=await _get(connection, path, _UNIT, "ActiveState"),
        )
    except CallError as error:
        if error.name.startswith(f"{SYSTEMD}."):
            raise NoSuchUnit(f"no unit {unit}: {error.text}") from error
        raise Unsupported(f"{unit} cannot be resolved: no systemd on this bus ({error.text})") from error
    except TimeoutError as error:
        raise Unsupported(f"{unit} cannot be resolved: systemd does not answer") from error


async def _ask(connection: Connection, path: str, interface: str, member: str, unit: str) -> list[Any]:
    return await connection.call(
        SYSTEMD, path, interface, member, "s", unit, returns="o", timeout_s=_TIMEOUT_S, start=False
    )


async def _get(connection: Connection, path: str, interface: str, name: str) -> Any:
    (value,) = await connection.call(
        SYSTEMD,
        path,
        "org.freedesktop.DBus.Properties",
        "Get",
        "ss",
        interface,
        name,
        returns="v",
        timeout_s=_TIMEOUT_S,
        start=False,
    )
    return value.value
