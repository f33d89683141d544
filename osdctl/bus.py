"""The D-Bus connection: calls, signals and file descriptors; the only module that knows dbus-next."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import MessageFlag, MessageType
from dbus_next.errors import AuthError, InvalidAddressError
from dbus_next.message import Message
from dbus_next.signature import Variant

from osdctl import called
from osdctl.errors import NoSuch, NotRunning, OsdctlError, Refused, UsageError

NAME = "org.osdetector1"
EMBEDDED_SOCKET = Path("/run/osdetectord/bus")
SYSTEM_SOCKET = Path("/run/dbus/system_bus_socket")
SYSTEMD = Path("/run/systemd/system")
START_HINT = called.how_to_start(SYSTEMD.is_dir())

CALL_TIMEOUT_S = 30.0
ASKING_TIMEOUT_S = 330.0
"""For a call that a person may be asked a password for."""

_TRACE_ACTION = f"{NAME}.trace"
_DRIVER = "org.freedesktop.DBus"
_ERROR = f"{NAME}.Error."
_DBUS_ERROR = "org.freedesktop.DBus.Error."
_ABSENT = frozenset(
    _DBUS_ERROR + name
    for name in ("ServiceUnknown", "NameHasNoOwner", "NoReply", "Disconnected", "NoServer", "TimedOut")
)
_NO_SUCH_OBJECT = frozenset(_DBUS_ERROR + name for name in ("UnknownObject", "UnknownInterface"))
_REFUSALS = frozenset(_ERROR + name for name in ("TooManyTargets", "BudgetExceeded", "Unsupported"))

_METHOD = re.compile(r"^[A-Z]\w+ (?=looks into|needs)")
"""How the daemon names the call that it refuses; who called a command knows what that was."""

# dbus-next logs to the root logger, with tracebacks; osdctl tells errors itself.
logging.getLogger().addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal as it came from the daemon, or ``NameOwnerChanged`` from the bus."""

    path: str
    interface: str
    member: str
    body: tuple[Any, ...]


def error_of(name: str, message: str) -> OsdctlError:
    """Return our error for a D-Bus error name and its message."""
    if name in _ABSENT or name.startswith(_DBUS_ERROR + "Spawn."):
        return NotRunning("the daemon is not running", START_HINT)
    if name == _DBUS_ERROR + "AccessDenied" or name == _ERROR + "NotAuthorized":
        message = _METHOD.sub("this ", message)
        if _TRACE_ACTION in message:
            return Refused(message, "be root: sudo osdctl ...")
        said = message if name.startswith(_ERROR) and message else "the bus refused: not allowed for this user"
        return Refused(said, called.how_to_be_allowed())
    if name == _ERROR + "InvalidArgument":
        return UsageError(message, "see man osdctl")
    if name == _ERROR + "NoSuchTarget":
        return NoSuch(message, "osdctl list shows what is watched, osdctl anomalies what was found")
    if name.startswith(_ERROR + "NoSuch"):
        return NoSuch(message)
    if name in _REFUSALS:
        return Refused(message)
    if name in _NO_SUCH_OBJECT:
        return NoSuch("the daemon has no such object", "osdctl list shows what is watched")
    if name == _DBUS_ERROR + "UnknownMethod":
        return OsdctlError(
            f"the daemon does not know the call: {message}", "are osdctl and osdetectord of one version?"
        )
    return OsdctlError(message or name)


def plain(value: Any) -> Any:
    """Return the value with every variant in it unpacked."""
    if isinstance(value, Variant):
        return plain(value.value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


class Bus:
    """A connection to one message bus.

    Parameters
    ----------
    address
        D-Bus address.
    place
        For people: ``system bus``, or the address.
    """

    def __init__(self, address: str, place: str) -> None:
        self.address = address
        self.place = place
        self._bus: Any = None
        self._owner = ""
        self._queues: list[asyncio.Queue[Signal | None]] = []

    async def connect(self) -> None:
        """Connect; raises :class:`NotRunning` where there is no bus."""
        try:
            self._bus = await asyncio.wait_for(
                MessageBus(bus_address=self.address, negotiate_unix_fd=True).connect(), CALL_TIMEOUT_S
            )
        except (OSError, EOFError, AuthError, InvalidAddressError, TimeoutError) as error:
            reason = (
                os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error) or "no answer"
            )
            said = f"the daemon is not running: no message bus at {self.address}: {reason.lower()}"
            raise NotRunning(said, START_HINT) from error
        self._bus.add_message_handler(self._on_message)

    def close(self) -> None:
        """Disconnect."""
        if self._bus is not None and self._bus.connected:
            self._bus.disconnect()

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: tuple[Any, ...] = (),
        *,
        destination: str = NAME,
        may_start: bool = False,
        may_ask: bool = False,
    ) -> list[Any]:
        """Call a method and return its plain results; a file descriptor comes as an open one.

        Dictionaries for ``a{sv}`` hold pairs of signature and value.  ``may_start`` lets the bus start the daemon,
        ``may_ask`` lets polkit ask for a password.  Raises :class:`OsdctlError`.
        """
        flags = MessageFlag.NONE if may_start else MessageFlag.NO_AUTOSTART
        timeout_s = ASKING_TIMEOUT_S if may_ask else CALL_TIMEOUT_S
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=[_with_variants(item) for item in body],
            flags=flags | MessageFlag.ALLOW_INTERACTIVE_AUTHORIZATION if may_ask else flags,
        )
        try:
            reply = await asyncio.wait_for(self._bus.call(message), timeout_s)
        except UnicodeEncodeError as error:
            raise UsageError("an argument that is not UTF-8") from error
        except TimeoutError as error:
            raise OsdctlError(
                f"the daemon did not answer {member} within {timeout_s:.0f} s", "see journalctl -u osdetectord"
            ) from error
        except (OSError, EOFError) as error:
            raise NotRunning("the connection to the message bus was lost", START_HINT) from error
        if reply is None:
            raise NotRunning("the connection to the message bus was lost", START_HINT)
        if reply.message_type is MessageType.ERROR:
            raise error_of(reply.error_name, str(reply.body[0]) if reply.body else "")
        results = [plain(item) for item in reply.body]
        if reply.signature == "h":
            results = [reply.unix_fds[results[0]]]
        return results

    async def can_start_daemon(self) -> bool:
        """Whether the bus starts the daemon when somebody calls it."""
        return NAME in (await self._driver("ListActivatableNames"))[0]

    async def has_daemon(self) -> bool:
        """Whether somebody owns the daemon's name."""
        return bool((await self._driver("NameHasOwner", "s", (NAME,)))[0])

    async def subscribe(self) -> AsyncIterator[Signal]:
        """Return the daemon's signals from now on, and changes of its name's owner.

        The iterator ends with :class:`NotRunning` when the bus goes away.
        """
        queue: asyncio.Queue[Signal | None] = asyncio.Queue()
        for rule in (
            f"type='signal',sender='{NAME}'",
            f"type='signal',sender='{_DRIVER}',member='NameOwnerChanged',arg0='{NAME}'",
        ):
            await self._driver("AddMatch", "s", (rule,))
        if await self.has_daemon():
            self._owner = (await self._driver("GetNameOwner", "s", (NAME,)))[0]
        self._queues.append(queue)
        gone = asyncio.ensure_future(self._disconnected())
        gone.add_done_callback(lambda _: queue.put_nowait(None))
        return self._drain(queue)

    async def _disconnected(self) -> None:
        # why it ended is of no use to anybody here
        with contextlib.suppress(OSError, EOFError):
            await self._bus.wait_for_disconnect()

    async def _drain(self, queue: asyncio.Queue[Signal | None]) -> AsyncIterator[Signal]:
        try:
            while (signal := await queue.get()) is not None:
                yield signal
        finally:
            self._queues.remove(queue)
        raise NotRunning("the connection to the message bus was lost", START_HINT)

    async def _driver(self, member: str, signature: str = "", body: tuple[Any, ...] = ()) -> list[Any]:
        return await self.call("/org/freedesktop/DBus", _DRIVER, member, signature, body, destination=_DRIVER)

    def _on_message(self, message: Any) -> None:
        if message.message_type is not MessageType.SIGNAL:
            return
        if message.sender == _DRIVER:
            if message.member != "NameOwnerChanged" or message.body[0] != NAME:
                return
            self._owner = message.body[2]
        elif not self._owner or message.sender != self._owner:
            # the bus lets anybody send a signal to one connection, whatever that has asked for
            return
        signal = Signal(message.path, message.interface, message.member, tuple(plain(item) for item in message.body))
        for queue in self._queues:
            queue.put_nowait(signal)


def _with_variants(item: Any) -> Any:
    if isinstance(item, Mapping):
        return {key: Variant(signature, value) for key, (signature, value) in item.items()}
    return item


def places(environ: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return address and name of each bus to look at, in order."""
    given = environ.get("DBUS_SYSTEM_BUS_ADDRESS")
    if given:
        return ((given, given),)
    system = (f"unix:path={SYSTEM_SOCKET}", "system bus")
    if os.access(EMBEDDED_SOCKET, os.F_OK):  # never raises, whoever may not look there
        return (system, (f"unix:path={EMBEDDED_SOCKET}", str(EMBEDDED_SOCKET)))
    return (system,)


async def connect(environ: Mapping[str, str]) -> Bus:
    """Connect to the first bus that has the daemon, else to the first that answers.

    Raises :class:`NotRunning` if none answers.
    """
    reached: Bus | None = None
    failure: OsdctlError | None = None
    for address, place in places(environ):
        bus = Bus(address, place)
        try:
            await bus.connect()
        except NotRunning as error:
            failure = failure or error
            continue
        if await bus.has_daemon():
            if reached is not None:
                reached.close()
            return bus
        if reached is None:
            reached = bus
        else:
            bus.close()
    if reached is not None:
        return reached
    raise failure or NotRunning("the daemon is not running: there is no message bus", START_HINT)
