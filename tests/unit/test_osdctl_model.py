"""What a daemon of another version says is either understood or named in one line."""

import asyncio

import pytest

from osdctl.errors import OsdctlError
from osdctl.manager import Manager
from osdctl.model import Allocations, Anomaly, Probe, Target

VALUES = {str: "x", int: 7, float: 0.5, bool: True, list: [], dict: {}}
TARGET = {
    "Spec": str, "State": str, "Since": int, "Persistent": bool, "FollowChildren": bool, "MutedUntil": int,
    "Score": float, "Progress": float, "Processes": list, "Latest": dict,
}  # fmt: skip
ANOMALY = {
    "Target": str, "Spec": str, "Pid": int, "Comm": str, "State": str, "Kind": str, "Opened": int, "Closed": int,
    "Score": float, "PValue": float, "Detectors": list, "Metrics": list, "Message": str, "Recurrence": int,
    "Useful": str,
}  # fmt: skip
PROBE = {
    "Scope": str, "State": str, "Since": int, "Budget": int, "FollowChildren": bool, "Places": list, "Calls": int,
    "Rate": float, "Lost": int, "Location": str, "Mean": float, "P50": float, "P99": float,
}  # fmt: skip
ALLOCATIONS = {
    "Scope": str, "Library": str, "State": str, "Since": int, "Budget": int, "Processes": list, "Rate": float,
    "Cost": float, "Lost": int,
}  # fmt: skip


class Answering:
    """A connection on which every call has the same answer."""

    def __init__(self, answer):
        self._answer = answer

    async def call(self, *call, **how):
        return [self._answer]


def answered(answer, ask):
    """Ask a manager whose daemon gives that answer."""

    async def connect():
        return Answering(answer)

    return asyncio.run(ask(Manager(connect)))


def of(kinds, **changes):
    return {**{name: VALUES[kind] for name, kind in kinds.items()}, "Target": "/target/1", **changes}


@pytest.mark.parametrize(
    ("kind", "kinds", "name", "fields"),
    [
        (Target, TARGET, "Processes", 6),
        (Anomaly, ANOMALY, "Metrics", 7),
        (Probe, PROBE, "Places", 5),
        (Allocations, ALLOCATIONS, "Processes", 7),
    ],
)
def test_rows_with_other_fields_are_told_as_another_version_s(kind, kinds, name, fields):
    assert kind.of("/one/1", of(kinds, **{name: [[7] * fields]})).id == 1
    for other in (fields - 1, fields + 1):
        with pytest.raises(OsdctlError, match=f"no proper {name}; are osdctl and osdetectord of one version"):
            kind.of("/one/1", of(kinds, **{name: [[7] * other]}))


@pytest.mark.parametrize(
    ("name", "ask", "answer"),
    [
        ("GetThreads", lambda manager, target: manager.threads(target, 1.0, 9), [[7, 8, "sh", "R"]]),
        ("GetSyscalls", lambda manager, target: manager.syscalls(target), [[0, "read", 7]]),
        ("GetLatency", lambda manager, target: manager.latency(target, "cpu"), {"cpu": [[], 0.5]}),
        ("Top", lambda manager, target: manager.top_allocations(target, 9), [[7, 8, 9, [], 10]]),
        ("MeasureAllocationPrice", lambda manager, target: manager.allocation_price(), {"malloc_s": 0.5}),
    ],
)
def test_answers_with_other_fields_are_told_as_another_version_s(name, ask, answer):
    target = Target.of("/target/1", of(TARGET))
    with pytest.raises(OsdctlError, match=f"no proper {name}; are osdctl and osdetectord of one version"):
        answered(answer, lambda manager: ask(manager, target))
