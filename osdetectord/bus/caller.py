"""Who calls, and whether they may change anything: asked of the bus, which asked the kernel."""

from __future__ import annotations

import grp
from collections import OrderedDict

from osdetectord.bus.adapter import Variant
from osdetectord.bus.connection import BUS, BUS_PATH, CallError, Connection
from osdetectord.core import Caller
from osdetectord.errors import NotAuthorized

GROUP = "osdetector"
TRACE_ACTION = "org.osdetector1.trace"
POLKIT = "org.freedesktop.PolicyKit1"
_AUTHORITY = f"{POLKIT}.Authority"
_AUTHORITY_PATH = "/org/freedesktop/PolicyKit1/Authority"
_ALLOW_INTERACTION = 1
_ASK_S, _ASK_PERSON_S = 10.0, 300.0
_REMEMBERED = 256


class Callers:
    """The users behind the connections to the bus.

    What the bus said is remembered for the newest connections.  It cannot grow old: a connection's credentials are
    those of its beginning, and its unique name is never used again (D-Bus specification, "Bus names").
    """

    def __init__(self, connection: Connection, group: str) -> None:
        self._connection = connection
        self._group = group
        self._known: OrderedDict[str, Caller] = OrderedDict()

    async def of(self, name: str) -> Caller:
        """Return who is behind a unique name.

        Raises
        ------
        NotAuthorized
            If the bus does not say so, for example because they are gone.
        """
        if name in self._known:
            self._known.move_to_end(name)
            return self._known[name]
        try:
            (said,) = await self._connection.call(
                BUS, BUS_PATH, BUS, "GetConnectionCredentials", "s", name, returns="a{sv}"
            )
            caller = Caller(name, said["UnixUserID"].value, tuple(said["UnixGroupIDs"].value))
        except (CallError, KeyError, TimeoutError) as error:
            raise NotAuthorized(f"the bus does not say who {name} is") from error
        self._known[name] = caller
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return caller

    def check(self, caller: Caller, what: str) -> None:
        """Raise NotAuthorized unless the caller is root or belongs to the service's group."""
        if caller.uid == 0:
            return
        try:
            gid = grp.getgrnam(self._group).gr_gid
        except KeyError:
            raise NotAuthorized(f"{what} needs root: there is no group {self._group}") from None
        if gid not in caller.gids:
            raise NotAuthorized(f"{what} needs root or the group {self._group}, not user {caller.uid}")

    async def check_trace(self, caller: Caller, what: str, interactive: bool) -> None:
        """Raise NotAuthorized unless the caller is root or polkit lets it look into other processes.

        Nothing is remembered: polkit has its own rules on how long it remembers a password.

        Parameters
        ----------
        caller
            Who calls.
        what
            Name of the method.
        interactive
            Whether the caller wants to be asked for a password.
        """
        if caller.uid == 0:
            return
        refusal = f"{what} looks into other processes: it needs root or leave of polkit for {TRACE_ACTION}"
        try:
            ((allowed, challenge, _details),) = await self._connection.call(
                POLKIT,
                _AUTHORITY_PATH,
                _AUTHORITY,
                "CheckAuthorization",
                "(sa{sv})sa{ss}us",
                ["system-bus-name", {"name": Variant("s", caller.name)}],
                TRACE_ACTION,
                {},
                _ALLOW_INTERACTION if interactive else 0,
                "",
                returns="(bba{ss})",
                timeout_s=_ASK_PERSON_S if interactive else _ASK_S,
            )
        except CallError as error:
            raise NotAuthorized(f"{refusal}, which cannot be asked ({error.text})") from error
        except TimeoutError as error:
            raise NotAuthorized(f"{refusal}, which does not answer") from error
        if not allowed:
            why = "it wants a password, and nobody was there to ask for it" if challenge else "it says no"
            raise NotAuthorized(f"{refusal}: {why}")
