"""The daemon's place on the bus: its connection, its name, its objects and what they tell."""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from osdetectord.bus.adapter import Variant
from osdetectord.bus.caller import GROUP, Callers
from osdetectord.bus.connection import BUS, BUS_PATH, SLICE_S, BusGone, CallError, Connection
from osdetectord.bus.declaration import Interface
from osdetectord.bus.header import Header
from osdetectord.bus.interface import (
    ALLOCATIONS,
    ANOMALIES,
    PROBES,
    ROOT,
    TARGETS,
    TRACES,
    Anomaly,
    Held,
    Manager,
    Probe,
    Target,
    Trace,
    anomaly_path,
    details,
    instrument_path,
    number_at,
    shown_name,
    shown_text,
    target_path,
)
from osdetectord.bus.service import NAME, PEER, Service
from osdetectord.bus.units import UnitView, unit_processes
from osdetectord.core import AllocationsView, AnomalyView, Core, Instrument, ProbeView, TargetView
from osdetectord.errors import NoSuchTarget, NotAuthorized, OsdetectorError

SYSTEM_BUS = "unix:path=/run/dbus/system_bus_socket"
ANOMALIES_SHOWN = 256
"""The object manager lists the newest anomalies; older ones still answer at their path."""
CHANGES_EVERY_S = 0.1
_DO_NOT_QUEUE = 0x4
_PRIMARY_OWNER = 1
_EXIT_SIGNATURES = {"Pid": "u", "Comm": "s", "Code": "i", "Signal": "i", "Spec": "s"}
_SHOWN = {"Comm": shown_name, "Spec": shown_text}


class NameTaken(OsdetectorError):
    """Somebody else has the name on the bus."""


class _Tree:
    """Which objects there are: the manager, each target, what is attached, and the newest anomalies."""

    root = ROOT

    def __init__(self, core: Core) -> None:
        self._core = core
        self._manager = Manager(core)
        self.anomalies: OrderedDict[int, None] = OrderedDict()

    def at(self, path: str) -> Interface[Any] | None:
        if path == ROOT:
            return self._manager
        try:
            if path.startswith(f"{TARGETS}/"):
                target = number_at(path, TARGETS)
                self._core.target(target)
                return Target(self._core, target)
            if path.startswith(f"{ANOMALIES}/"):
                anomaly = number_at(path, ANOMALIES)
                self._core.anomaly(anomaly)
                return Anomaly(lambda: self._core.anomaly(anomaly))
            if path.startswith(f"{PROBES}/"):
                return Probe(self._core.instruments, self._core.instruments.probe(number_at(path, PROBES)).number)
            if path.startswith(f"{TRACES}/"):
                return Trace(self._core.instruments, self._core.instruments.trace(number_at(path, TRACES)).number)
            if path.startswith(f"{ALLOCATIONS}/"):
                return Held(self._core.allocations, self._core.allocations.get(number_at(path, ALLOCATIONS)).number)
        except NoSuchTarget:
            return None
        return None

    def children(self, path: str) -> Sequence[str]:
        if path == TARGETS:
            return [str(target.number) for target in self._core.targets()]
        if path == ANOMALIES:
            return [str(number) for number in self.anomalies]
        if path in (PROBES, TRACES):
            paths = [instrument_path(view) for view in self._core.instruments.views()]
            return [each[len(path) + 1 :] for each in paths if each.startswith(f"{path}/")]
        if path == ALLOCATIONS:
            return [str(view.number) for view in self._core.allocations.views()]
        if path == ROOT:
            return ["target", "anomaly", "probe", "trace", "allocations"]
        below = "/" if path == "/" else f"{path}/"
        return [ROOT[len(below) :].partition("/")[0]] if ROOT.startswith(below) else []

    def managed(self) -> Iterable[tuple[str, type[Interface[Any]], object]]:
        for target in self._core.targets():
            yield target_path(target.number), Target, target
        for number in self.anomalies:
            try:
                yield anomaly_path(number), Anomaly, self._core.anomaly(number)
            except NoSuchTarget:
                continue
        for view in (*self._core.instruments.views(), *self._core.allocations.views()):
            yield instrument_path(view), _interface_of(view), view


def _interface_of(view: Instrument) -> type[Interface[Any]]:
    if isinstance(view, AllocationsView):
        return Held
    return Probe if isinstance(view, ProbeView) else Trace


class BusServer:
    """Serves ``org.osdetector1`` and tells the bus what the daemon tells it.

    Changes of properties are gathered for a moment and sent in slices: a tick that changes a thousand targets
    neither holds the loop nor sends one property twice.  Without a connection what is told is forgotten; who
    connects later reads the state.

    Parameters
    ----------
    core
        The daemon.
    address
        D-Bus address; None for the system bus, or what ``DBUS_SYSTEM_BUS_ADDRESS`` says.
    group
        Group whose members may do what root may.
    """

    def __init__(self, core: Core, address: str | None = None, group: str = GROUP) -> None:
        self._core = core
        self._group = group
        self._address = address or os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS
        self._tree = _Tree(core)
        self._service = Service(self._tree)
        self._connection: Connection | None = None
        self._changed_targets: dict[int, tuple[TargetView, set[str]]] = {}
        self._changed_manager: set[str] = set()
        self._changes_due: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Connect, serve the objects and take the name; may be called again when the connection was lost.

        Raises
        ------
        BusGone
            Where there is no bus.
        NameTaken
            Where another osdetectord is running.
        NotAuthorized
            Where the bus's policy does not let this user have the name.
        """
        self._tree.anomalies = OrderedDict(
            (view.number, None)
            for view in reversed(self._core.list_anomalies(0, 0, None, only_open=False, limit=ANOMALIES_SHOWN))
        )
        connection = Connection(self._service.serve, self._signalled)
        self._service.connection = connection
        self._service.callers = Callers(connection, self._group)
        self._connection = connection
        try:
            await connection.open(self._address)
            await self._take_name(connection)
        except BaseException:
            self._connection = None
            await connection.close()
            raise

    async def ping(self, timeout_s: float) -> None:
        """Ask ourselves, by our name and through the bus, whether we can be reached.

        Raises
        ------
        BusGone
            If not, or not in time.
        """
        try:
            await self._open().call(NAME, ROOT, PEER, "Ping", timeout_s=timeout_s, start=False)
        except TimeoutError as error:
            raise BusGone(f"the message bus did not answer within {timeout_s:g} s") from error
        except CallError as error:
            raise BusGone(f"{NAME} cannot be reached on the message bus: {error.text}") from error

    async def unit_processes(self, unit: str) -> UnitView:
        """Resolve a unit; see :func:`osdetectord.bus.units.unit_processes`."""
        return await unit_processes(self._open(), unit)

    async def wait_closed(self) -> None:
        """Return when the connection, or the name, is lost; at once where there is none."""
        if self._connection is not None:
            await self._connection.wait_closed()

    async def stop(self) -> None:
        """Send what waits and leave the bus."""
        if self._changes_due is not None:
            self._changes_due.cancel()
            self._changes_due = None
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    @property
    def connected(self) -> bool:
        """Whether the connection to the bus stands."""
        return self._connection is not None and self._connection.open_now

    @property
    def lost(self) -> Mapping[str, int]:
        """What was not served on this connection, by cause."""
        if self._connection is None:
            return {}
        return {
            "bus_calls_refused": self._connection.refused_calls,
            "bus_signals_dropped": self._connection.dropped_signals,
            "bus_messages_unreadable": self._connection.unreadable,
        }

    def _open(self) -> Connection:
        if self._connection is None:
            raise BusGone("there is no connection to the message bus")
        return self._connection

    async def _take_name(self, connection: Connection) -> None:
        try:
            (said,) = await connection.call(BUS, BUS_PATH, BUS, "RequestName", "su", NAME, _DO_NOT_QUEUE, returns="u")
        except CallError as error:
            raise NotAuthorized(
                f"user {os.geteuid()} may not own {NAME} on this bus: is its policy file installed? ({error.text})"
            ) from error
        except TimeoutError as error:
            raise BusGone("the message bus does not answer") from error
        if said != _PRIMARY_OWNER:
            raise NameTaken(f"the name {NAME} is taken: {await self._owner(connection)} has it")

    async def _owner(self, connection: Connection) -> str:
        try:
            (pid,) = await connection.call(BUS, BUS_PATH, BUS, "GetConnectionUnixProcessID", "s", NAME, returns="u")
        except (CallError, TimeoutError):
            return "another process"
        return f"process {pid}"

    def _signalled(self, head: Header, _body: bytes) -> None:
        # Sent to us alone, by the bus alone: no rule asks for it, and the policy lets nobody else send it.
        if head.sender == BUS and head.interface == BUS and head.member == "NameLost" and self._connection:
            self._connection.lose(f"the name {NAME} was lost")

    # --- Listener

    def manager_changed(self, names: Sequence[str]) -> None:
        """Tell which of the manager's properties changed."""
        self._changed_manager.update(names)
        self._tell_soon()

    def target_added(self, target: TargetView) -> None:
        """Tell of a new target."""
        self._emit_added(target_path(target.number), Target, target)

    def target_changed(self, target: TargetView, names: Sequence[str]) -> None:
        """Tell which of a target's properties changed."""
        _view, known = self._changed_targets.get(target.number, (target, set()))
        known.update(names)
        self._changed_targets[target.number] = (target, known)
        self._tell_soon()

    def target_exited(self, target: int, details: Mapping[str, object]) -> None:
        """Tell that a process of a target ended."""
        self._tell_target(target)
        values = {
            name: Variant(signature, _SHOWN[name](str(details[name])) if signature == "s" else details[name])
            for name, signature in _EXIT_SIGNATURES.items()
            if name in details
        }
        self._emit("TargetExited", target_path(target), values)

    def target_removed(self, number: int) -> None:
        """Tell that a target is watched no longer."""
        self._changed_targets.pop(number, None)
        if self.connected:
            self._service.emit_removed(target_path(number), Target)

    def instrument_added(self, view: Instrument) -> None:
        """Tell of a new probe, trace or allocations."""
        self._emit_added(instrument_path(view), _interface_of(view), view)

    def instrument_changed(self, view: Instrument) -> None:
        """Tell what a probe, a trace or allocations show now."""
        if self.connected:
            interface = _interface_of(view)
            self._service.emit_changed(instrument_path(view), interface, interface.shown(view))

    def instrument_removed(self, view: Instrument) -> None:
        """Tell that a probe, a trace or allocations are there no longer."""
        if self.connected:
            self._service.emit_removed(instrument_path(view), _interface_of(view))

    def anomaly_opened(self, anomaly: AnomalyView) -> None:
        """Tell of a new anomaly; the oldest one leaves the list when it is full."""
        self._tell_target(anomaly.target)
        self._tree.anomalies[anomaly.number] = None
        self._emit_added(anomaly_path(anomaly.number), Anomaly, anomaly)
        if len(self._tree.anomalies) > ANOMALIES_SHOWN:
            oldest, _none = self._tree.anomalies.popitem(last=False)
            if self.connected:
                self._service.emit_removed(anomaly_path(oldest), Anomaly)
        self._emit("AnomalyOpened", anomaly_path(anomaly.number), details(anomaly))

    def anomaly_updated(self, anomaly: AnomalyView) -> None:
        """Tell that an anomaly goes on."""
        self._anomaly_changed("AnomalyUpdated", anomaly)

    def anomaly_closed(self, anomaly: AnomalyView) -> None:
        """Tell that an anomaly is over."""
        self._tell_target(anomaly.target)
        self._anomaly_changed("AnomalyClosed", anomaly)

    # --- telling

    def _emit(self, signal: str, *values: object) -> None:
        if self.connected:
            self._service.emit(ROOT, Manager, signal, *values)

    def _emit_added(self, path: str, interface: type[Interface[Any]], view: object) -> None:
        if self.connected:
            self._service.emit_added(path, interface, view)

    def _anomaly_changed(self, signal: str, anomaly: AnomalyView) -> None:
        if not self.connected:
            return
        path = anomaly_path(anomaly.number)
        if anomaly.number in self._tree.anomalies:
            self._service.emit_changed(path, Anomaly, Anomaly.shown(anomaly))
        self._emit(signal, path, details(anomaly))

    def _tell_soon(self) -> None:
        if self._changes_due is None and self.connected:
            self._changes_due = asyncio.get_running_loop().call_later(CHANGES_EVERY_S, self._tell_changes)

    def _tell_changes(self) -> None:
        self._changes_due = None
        if not self.connected:
            self._changed_targets.clear()
            self._changed_manager.clear()
            return
        if self._changed_manager:
            names, self._changed_manager = frozenset(self._changed_manager), set()
            view = self._tree.at(ROOT)
            assert view is not None
            self._service.emit_changed(ROOT, Manager, Manager.shown(view.view(), names))
        end = time.monotonic() + SLICE_S
        while self._changed_targets:
            self._tell_target(next(iter(self._changed_targets)))
            if time.monotonic() > end:
                self._changes_due = asyncio.get_running_loop().call_later(0, self._tell_changes)
                return

    def _tell_target(self, number: int) -> None:
        """Tell a target's changes before something that follows from them."""
        view, names = self._changed_targets.pop(number, (None, set()))
        if view is not None and self.connected:
            self._service.emit_changed(target_path(number), Target, Target.shown(view, frozenset(names)))
