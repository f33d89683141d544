"""What is attached to processes and detached, noted on its way to the bus: a probe slows what it measures."""

from __future__ import annotations

from osdetectord import wall
from osdetectord.core import Instrument, ProbeView, TraceView
from osdetectord.happenings import Happenings
from osdetectord.tending import Listener


class Noting:
    """A listener that notes what it passes on.

    Parameters
    ----------
    happenings
        Where it is noted.
    bus
        Hears everything.
    """

    def __init__(self, happenings: Happenings, bus: Listener) -> None:
        self._happenings, self._bus = happenings, bus

    def instrument_added(self, view: Instrument) -> None:
        """Tell of what was attached."""
        self._note("attached", view)
        self._bus.instrument_added(view)

    def instrument_changed(self, view: Instrument) -> None:
        """Tell of what changed."""
        self._bus.instrument_changed(view)

    def instrument_removed(self, view: Instrument) -> None:
        """Tell of what was detached."""
        self._note("detached", view)
        self._bus.instrument_removed(view)

    def _note(self, kind: str, view: Instrument) -> None:
        scope, _, number = view.scope.partition(":")
        target = int(number) if scope == "target" else 0
        self._happenings.note(wall.now_us(), kind, _named(view), target=target)


def _named(view: Instrument) -> str:
    if isinstance(view, ProbeView):
        return f"probe {view.number} of {view.location}, {view.scope}"
    if isinstance(view, TraceView):
        return f"trace {view.number} of {view.signature}, {view.scope}"
    return f"allocations {view.number} of {view.scope}"
