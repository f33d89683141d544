"""Who calls, and whether they may change anything: asked of the bus, which asked the kernel."""

from __future__ import annotations

import grp
from collections import OrderedDict

from osdetectord.bus.connection import BUS, BUS_PATH, CallError, Connection
from osdetectord.core import Caller
from osdetectord.errors import NotAuthorized

GROUP = "osdetector"
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
