"""Objects on the bus: finds what a call names, asks who calls, and answers with a value or with one clear error."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from osdetectord.bus import adapter
from osdetectord.bus.adapter import Variant
from osdetectord.bus.body import join_pairs, pair
from osdetectord.bus.caller import Callers
from osdetectord.bus.connection import SLICE_S, Call, Connection
from osdetectord.bus.declaration import Encoded, Interface, Method, Right
from osdetectord.bus.header import ALLOW_INTERACTION
from osdetectord.errors import NoSuchTarget, NotAuthorized, OsdetectorError
from osdetectord.logger import get_logger

_log = get_logger()

NAME = "org.osdetector1"
STANDARD = "org.freedesktop.DBus"
INTROSPECTABLE = f"{STANDARD}.Introspectable"
PEER = f"{STANDARD}.Peer"
PROPERTIES = f"{STANDARD}.Properties"
OBJECT_MANAGER = f"{STANDARD}.ObjectManager"
MANAGED = "a{oa{sa{sv}}}"
MAX_TEXT = 4096
WAITS_PER_SENDER = 4
WAITS_IN_ALL = 32
"""Of methods that anybody may call and that take seconds: far less than calls that are served at once."""

_DOCTYPE = (
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"\n'
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">\n'
)
_STANDARD_XML = """\
  <interface name="org.freedesktop.DBus.Introspectable">
    <method name="Introspect">
      <arg name="data" type="s" direction="out"/>
    </method>
  </interface>
  <interface name="org.freedesktop.DBus.Peer">
    <method name="GetMachineId">
      <arg name="machine_uuid" type="s" direction="out"/>
    </method>
    <method name="Ping"/>
  </interface>
  <interface name="org.freedesktop.DBus.Properties">
    <method name="Get">
      <arg name="interface" type="s" direction="in"/>
      <arg name="property" type="s" direction="in"/>
      <arg name="value" type="v" direction="out"/>
    </method>
    <method name="Set">
      <arg name="interface" type="s" direction="in"/>
      <arg name="property" type="s" direction="in"/>
      <arg name="value" type="v" direction="in"/>
    </method>
    <method name="GetAll">
      <arg name="interface" type="s" direction="in"/>
      <arg name="properties" type="a{sv}" direction="out"/>
    </method>
    <signal name="PropertiesChanged">
      <arg name="interface" type="s"/>
      <arg name="changed" type="a{sv}"/>
      <arg name="invalidated" type="as"/>
    </signal>
  </interface>
"""
_OBJECT_MANAGER_XML = """\
  <interface name="org.freedesktop.DBus.ObjectManager">
    <method name="GetManagedObjects">
      <arg name="objects" type="a{oa{sa{sv}}}" direction="out"/>
    </method>
    <signal name="InterfacesAdded">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="a{sa{sv}}"/>
    </signal>
    <signal name="InterfacesRemoved">
      <arg name="object" type="o"/>
      <arg name="interfaces" type="as"/>
    </signal>
  </interface>
"""


class Objects(Protocol):
    """Which objects there are."""

    root: str
    """Path of the object manager, which does not list itself."""

    def at(self, path: str) -> Interface[Any] | None:
        """Return the interface of the object at a path; None where there is none."""

    def children(self, path: str) -> Sequence[str]:
        """Return the last parts of the paths just below a path, objects and those on the way to one."""

    def managed(self) -> Iterable[tuple[str, type[Interface[Any]], object]]:
        """Return path, interface and view of each object below the root."""


class _Refused(Exception):
    """A call gets an error of the D-Bus specification."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = f"{STANDARD}.Error.{name}"


Answer = tuple[str, bytes, tuple[int, ...]]
"""Signature, body and descriptors."""


class Service:
    """Answers calls to the objects.

    One that anybody may make and that can be answered from memory is answered at once, every other one in a
    coroutine.  Who may change something is asked before the arguments are looked at.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._faults = 0
        self._fault_logged = -60.0
        self._pairs: dict[str, tuple[object, bytes]] = {}
        self._waits: Counter[str] = Counter()
        self.connection: Connection
        self.callers: Callers

    def serve(self, call: Call) -> Coroutine[Any, Any, None] | None:
        """Answer a call, at once or in the coroutine that is returned."""
        try:
            answer = self._answer(call)
        except Exception as error:  # noqa: BLE001  around a bus call: whatever happens, it is answered
            self._failed(call, error)
            return None
        if isinstance(answer, tuple):
            self.connection.reply(call.header, *answer)
            return None
        return self._later(call, answer)

    async def _later(self, call: Call, answer: Coroutine[Any, Any, Answer]) -> None:
        try:
            self.connection.reply(call.header, *await answer)
        except Exception as error:  # noqa: BLE001  around a bus call: whatever happens, it is answered
            self._failed(call, error)

    def _failed(self, call: Call, error: Exception) -> None:
        if isinstance(error, _Refused):
            name, text = error.name, str(error)
        elif isinstance(error, OsdetectorError):
            name, text = f"{NAME}.Error.{error.name}", str(error)
        else:
            self._log_fault(call, error)
            name, text = f"{NAME}.Error.Failed", "internal error; the daemon's log says more"
        self.connection.refuse(call.header, name, _printable(text))

    def _log_fault(self, call: Call, error: Exception) -> None:
        """Log a fault of our own, at most one a minute: any user may be able to repeat it."""
        self._faults += 1
        now = time.monotonic()
        if now - self._fault_logged >= 60:
            self._fault_logged = now
            _log.error(
                "a bus call failed",
                member=call.header.member,
                path=call.header.path,
                faults=self._faults,
                exc_info=error,
            )

    def _answer(self, call: Call) -> Answer | Coroutine[Any, Any, Answer]:
        head = call.header
        interface, member = head.interface, head.member
        if interface in ("", PEER) and member == "Ping":
            _expect(head.signature, "", member)
            return "", b"", ()
        if interface in ("", PEER) and member == "GetMachineId":
            _expect(head.signature, "", member)
            return "s", adapter.encode("s", [_machine_id()]), ()
        if interface in ("", INTROSPECTABLE) and member == "Introspect":
            _expect(head.signature, "", member)
            return "s", adapter.encode("s", [self._introspect(head.path)]), ()
        if interface in ("", OBJECT_MANAGER) and member == "GetManagedObjects" and head.path == self._objects.root:
            _expect(head.signature, "", member)
            return self._managed_objects()
        shown = self._objects.at(head.path)
        if shown is None:
            raise _Refused("UnknownObject", f"no object {head.path:.200}")
        if interface in ("", PROPERTIES) and member in ("Get", "GetAll", "Set"):
            return self._property(shown, call)
        method = shown.methods.get(member)
        if method is None or interface not in ("", shown.name):
            raise _Refused("UnknownMethod", f"no method {member:.200} in {interface or shown.name:.200}")
        if method.right is not Right.NONE:
            return self._change(shown, method, call)
        arguments = _arguments(call, method)
        if method.waits:
            self._check_waits(method, head.sender)
            return self._wait(method, head.sender, method.function(shown, *arguments))
        value = method.function(shown, *arguments)
        return self._eventually(method, value) if isinstance(value, Coroutine) else self._result(method, value)

    async def _eventually(self, method: Method, value: Coroutine[Any, Any, object]) -> Answer:
        return self._result(method, await value)

    def _check_waits(self, method: Method, sender: str) -> None:
        if self._waits[sender] >= WAITS_PER_SENDER:
            raise _Refused("LimitsExceeded", f"{WAITS_PER_SENDER} calls of {sender} wait for {method.name} already")
        if self._waits.total() >= WAITS_IN_ALL:
            raise _Refused("LimitsExceeded", f"{WAITS_IN_ALL} calls wait for {method.name} already; try again soon")
        self._waits[sender] += 1

    async def _wait(self, method: Method, sender: str, value: Awaitable[object]) -> Answer:
        try:
            return self._result(method, await value)
        finally:
            self._waits[sender] -= 1
            if not self._waits[sender]:
                del self._waits[sender]

    async def _change(self, shown: Interface[Any], method: Method, call: Call) -> Answer:
        sender = call.header.sender
        if not sender:
            raise NotAuthorized("a call without a sender")
        caller = await self.callers.of(sender)
        if method.right is Right.TRACE:
            interactive = bool(call.header.flags & ALLOW_INTERACTION)
            await self.callers.check_trace(caller, method.name, interactive)
        else:
            self.callers.check(caller, method.name)
        return self._result(method, await method.function(shown, *_arguments(call, method), asked_by=caller))

    def _result(self, method: Method, value: object) -> Answer:
        if isinstance(value, Encoded):
            return method.returns, value.body, ()
        if method.returns == "h":
            assert isinstance(value, int)
            return "h", adapter.encode("h", [0]), (value,)
        return method.returns, adapter.encode(method.returns, [value] if method.returns else []), ()

    def _property(self, shown: Interface[Any], call: Call) -> Answer:
        member, signature = call.header.member, call.header.signature
        big_endian = call.header.order == ">"
        if member == "Set":
            raise _Refused("PropertyReadOnly", "every property is read only")
        _expect(signature, "ss" if member == "Get" else "s", member)
        asked, *names = _decode(signature, call.body, big_endian)
        if asked not in ("", shown.name):
            if asked in (INTROSPECTABLE, PEER, PROPERTIES, OBJECT_MANAGER) and member == "GetAll":
                return "a{sv}", adapter.encode("a{sv}", [{}]), ()
            raise _Refused("UnknownInterface", f"no interface {asked:.200} at {call.header.path:.200}")
        values = shown.shown(self._view(shown, call), frozenset(names) or None)
        if member == "GetAll":
            return "a{sv}", adapter.encode("a{sv}", [values]), ()
        if names[0] not in values:
            raise _Refused("UnknownProperty", f"no property {names[0]:.200} in {shown.name}")
        return "v", adapter.encode("v", [values[names[0]]]), ()

    def _view(self, shown: Interface[Any], call: Call) -> object:
        try:
            return shown.view()
        except NoSuchTarget as error:
            raise _Refused("UnknownObject", str(error)) from error

    async def _managed_objects(self) -> Answer:
        """Encode what changed since the last time, and yield now and then: there may be a thousand objects."""
        pairs: dict[str, tuple[object, bytes]] = {}
        end = time.monotonic() + SLICE_S
        for path, interface, view in list(self._objects.managed()):
            known = self._pairs.get(path)
            if known is None or (known[0] is not view and known[0] != view):
                known = (view, pair(path, {interface.name: interface.shown(view)}))
                if time.monotonic() > end:
                    await asyncio.sleep(0)
                    end = time.monotonic() + SLICE_S
            pairs[path] = known
        self._pairs = pairs
        return MANAGED, join_pairs(encoded for _view, encoded in pairs.values()), ()

    def _introspect(self, path: str) -> str:
        shown = self._objects.at(path)
        parts = [_DOCTYPE, "<node>\n"]
        if shown is not None:
            parts += [shown.xml, _STANDARD_XML]
        if path == self._objects.root:
            parts.append(_OBJECT_MANAGER_XML)
        parts += [f'  <node name="{child}"/>\n' for child in self._objects.children(path)]
        return "".join([*parts, "</node>\n"])

    # --- what the objects tell

    def emit(self, path: str, interface: type[Interface[Any]], signal: str, *values: object) -> None:
        """Emit one of an interface's signals."""
        self.connection.emit(path, interface.name, signal, *interface.signal(signal, *values))

    def emit_changed(self, path: str, interface: type[Interface[Any]], values: Mapping[str, Variant]) -> None:
        """Emit ``PropertiesChanged``."""
        signature = "sa{sv}as"
        body = adapter.encode(signature, [interface.name, values, []])
        self.connection.emit(path, PROPERTIES, "PropertiesChanged", signature, body)

    def emit_added(self, path: str, interface: type[Interface[Any]], view: object) -> None:
        """Emit ``InterfacesAdded`` from the object manager."""
        signature = "oa{sa{sv}}"
        body = adapter.encode(signature, [path, {interface.name: interface.shown(view)}])
        self.connection.emit(self._objects.root, OBJECT_MANAGER, "InterfacesAdded", signature, body)

    def emit_removed(self, path: str, interface: type[Interface[Any]]) -> None:
        """Emit ``InterfacesRemoved`` from the object manager."""
        signature = "oas"
        body = adapter.encode(signature, [path, [interface.name]])
        self.connection.emit(self._objects.root, OBJECT_MANAGER, "InterfacesRemoved", signature, body)


def _arguments(call: Call, method: Method) -> list[Any]:
    _expect(call.header.signature, method.signature, method.name)
    return _decode(method.signature, call.body, call.header.order == ">")


def _expect(signature: str, expected: str, member: str) -> None:
    if signature != expected:
        raise _Refused("InvalidArgs", f"{member} takes ({expected}), not ({signature:.50})")


def _decode(signature: str, body: bytes, big_endian: bool) -> list[Any]:
    try:
        return adapter.decode(signature, body, big_endian=big_endian)
    except adapter.Undecodable as error:
        raise _Refused("InvalidArgs", str(error)) from error


def _printable(text: str) -> str:
    """Return an error's message, which may hold what a caller sent, as text for one line of a terminal."""
    kept = text[:MAX_TEXT].encode("utf-8", "replace").decode()
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in kept)


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _Refused("FileNotFound", "no machine id") from error
