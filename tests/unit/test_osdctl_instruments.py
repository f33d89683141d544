"""What ``osdctl`` says of probes, traces and processes that are not there."""

import argparse
import asyncio

import pytest

from osdctl.commands import allocations
from osdctl.errors import NoSuch
from osdctl.manager import Manager
from osdctl.model import PROBE_ROOT, TRACE_ROOT
from osdctl.text import Look

NO_PID = 2**22 + 1
"""One more than there may be (PID_MAX_LIMIT)."""
COMMON = {
    "Scope": "pid:42", "State": "on", "Since": 1, "Budget": 1, "FollowChildren": True, "Places": [], "Calls": 0,
    "Rate": 0.0, "Lost": 0,
}  # fmt: skip
PROBE = {**COMMON, "Location": ":search", "Mean": 0.0, "P50": 0.0, "P99": 0.0}
TRACE = {**COMMON, "Signature": ":search() -> int", "Lines": 0}


class OneOfEach(Manager):
    """A daemon's with the probe 1 and the trace 2."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def _call(self, path, interface, member, *rest, **more):
        self.asked.append(member)
        if member == "GetManagedObjects":
            return {
                f"{PROBE_ROOT}1": {"org.osdetector1.Probe": PROBE},
                f"{TRACE_ROOT}2": {"org.osdetector1.Trace": TRACE},
            }
        raise NoSuch("no such object")


@pytest.mark.parametrize(
    ("kind", "number", "said"),
    [
        ("trace", 1, "no trace 1: it is a probe"),
        ("probe", 2, "no probe 2: it is a trace"),
        ("trace", 3, "no trace 3"),
        ("probe", 3, "no probe 3"),
    ],
)
def test_a_number_of_the_other_kind_is_told_as_that(kind, number, said):
    manager = OneOfEach()
    with pytest.raises(NoSuch) as caught:
        asyncio.run(getattr(manager, kind)(number))
    assert caught.value.message == said


def test_no_price_is_measured_for_a_process_that_is_not_there():
    manager = OneOfEach()
    asked = argparse.Namespace(
        verb="add", target=None, pid=NO_PID, library=None, budget=1000, yes=True, look=Look()
    )  # fmt: skip
    with pytest.raises(NoSuch) as caught:
        asyncio.run(allocations.run(asked, manager))
    assert (caught.value.message, manager.asked) == (f"no process {NO_PID}", [])
