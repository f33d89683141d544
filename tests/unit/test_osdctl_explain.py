"""What ``osdctl explain`` says of metrics that are within their ranges."""

import argparse
import asyncio

from osdctl.commands import explain
from osdctl.model import Anomaly, Blame
from osdctl.text import Look

OPENED_US = 1_700_000_000_000_000
CALM = Blame("syscalls.open_time", "s/s", 0.7, 0.000862, 0.000716, 0.00162, OPENED_US - 2_000_000)
LEAK = Blame("memory.rss", "bytes", 0.3, 212 * 2.0**20, 118 * 2.0**20, 131 * 2.0**20, OPENED_US - 1_000_000)


class Manager:
    """Stands for a daemon that knows one anomaly."""

    def __init__(self, *blames: Blame) -> None:
        self.one = Anomaly(
            7, 1, "comm:p1", 1234, "worker", "open", "anomaly", OPENED_US, 0, 9.1, 3e-6, ("level",), blames, "", 0, ""
        )

    async def anomaly(self, number: int) -> Anomaly:
        return self.one

    async def anomalies(self, **asked: int) -> list[Anomaly]:
        return [self.one]

    async def evidence(self, anomaly: Anomaly) -> str:
        return ""


def explained(*blames: Blame) -> str:
    return asyncio.run(explain.run(argparse.Namespace(look=Look(), id=7), Manager(*blames)))


def row(text: str, metric: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(metric))


def test_a_metric_within_its_range_did_not_leave_it():
    text = explained(CALM, LEAK)
    assert row(text, "syscalls.open_time").endswith("within it")
    assert row(text, "memory.rss").endswith("1s before the alarm")
    assert "combination" not in text


def test_where_all_are_within_their_ranges_their_combination_is_unusual():
    text = explained(CALM)
    assert row(text, "syscalls.open_time").endswith("within it")
    assert "Each of them is within its range: it is their combination that is unusual." in text
    assert "before the alarm" not in text
