"""In a machine of software, where all takes thirty times as long: waits longer for the loader, tries a test twice.

A plugin of pytest, and ``python3 -m patience MODULE`` for a program.
"""

from __future__ import annotations

import runpy
import sys

import osdetectord.bpf.kernel

osdetectord.bpf.kernel.LOADER_TIMEOUT_S = 600.0


def pytest_runtest_protocol(item, nextitem):
    """Run a test that fails once more; what it said at first becomes a property of its second outcome.

    An emulated processor may stand still for seconds in the middle of what a test times.
    """
    from _pytest.runner import runtestprotocol

    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    failed = [report.longreprtext for report in reports if report.failed]
    if failed:
        item._initrequest()
        item.user_properties.append(("before", failed[0][-2000:]))
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


if __name__ == "__main__":
    runpy.run_module(sys.argv[1], run_name="__main__", alter_sys=True)
