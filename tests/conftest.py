"""Real programs on a machine that others use too: what such a test finds wrong, it must find twice."""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol

ALONE = {"unit", "kernels"}
"""Tiers that nothing disturbs, or that try twice themselves."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a folder together where folders run side by side: they share what takes long to make."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(item.path.parent.name))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test that fails once more.

    A processor that is taken away in the middle of what a test times is no fault of ours; one that fails twice is.
    The first failure is told as a warning, and stays with the outcome as its property ``before``.  What tests share is
    made anew for the second.
    """
    if item.path.parent.name in ALONE:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report.longreprtext for report in reports if report.failed]
    if failed:
        item.warn(pytest.PytestWarning(f"{item.name} failed in its first try: {failed[0][-2000:]}"))
        item.user_properties.append(("before", failed[0][-2000:]))
        item.session._setupstate.teardown_exact(None)
        item._initrequest()  # type: ignore[attr-defined]
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
