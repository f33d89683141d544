"""What is attached to processes stands among the happenings around an anomaly."""

import math

from osdetectord import wall
from osdetectord.core import AllocationsView, ProbeView, TraceView
from osdetectord.happenings import Happenings
from osdetectord.noting import Noting

PROBE = ProbeView(1, ":search", "pid:42", "on", 0, 20_000, True, (), 0, 0.0, math.nan, math.nan, math.nan, 0)
TRACE = TraceView(2, ":doze() -> int", "target:7", "on", 0, 20_000, True, (), 0, 0.0, 0, 0)
HEAP = AllocationsView(3, "pid:42", "", "on", 0, 20_000, (), 0.0, math.nan, 0)


class Bus:
    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda view: self.calls.append((name, view.number))


def test_what_comes_and_goes_is_noted_and_passed_on_and_what_only_changes_is_passed_on():
    bus, happenings, before = Bus(), Happenings(), wall.now_us()
    noting = Noting(happenings, bus)
    noting.instrument_added(PROBE)
    noting.instrument_changed(PROBE)
    noting.instrument_added(TRACE)
    noting.instrument_added(HEAP)
    noting.instrument_removed(PROBE)

    assert [(one.kind, one.what, one.target) for one in happenings.between(before, wall.now_us())] == [
        ("attached", "probe 1 of :search, pid:42", 0),
        ("attached", "trace 2 of :doze() -> int, target:7", 7),
        ("attached", "allocations 3 of pid:42", 0),
        ("detached", "probe 1 of :search, pid:42", 0),
    ]
    assert bus.calls == [
        ("instrument_added", 1),
        ("instrument_changed", 1),
        ("instrument_added", 2),
        ("instrument_added", 3),
        ("instrument_removed", 1),
    ]
