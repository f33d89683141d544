"""Following what the daemon tells: that it stopped is said when it is known whether there is something to wait for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from osdctl.errors import NotRunning
from osdctl.manager import Event

GRACE_S = 1.0
"""A bus that ends with the daemon ends within so long."""


async def steadily(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    """Yield the events; ``stopped`` only where the bus outlives the daemon.

    Raises
    ------
    NotRunning
        If the bus has gone, alone or with the daemon.
    """
    coming: asyncio.Future[Event] | None = None
    try:
        while True:
            coming = coming or asyncio.ensure_future(anext(events))
            event, coming = await coming, None
            if event.kind == "stopped":
                coming = asyncio.ensure_future(anext(events))
                await asyncio.wait({coming}, timeout=GRACE_S)
                if coming.done() and isinstance(error := coming.exception(), NotRunning):
                    raise NotRunning("the daemon stopped, and its message bus with it", error.hint)
            yield event
    except StopAsyncIteration:
        return
    finally:
        if coming is not None:
            coming.cancel()
            with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration, NotRunning):
                await coming
