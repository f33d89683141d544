"""Probes and traces from within the service's sandbox, of a service with its own files, by leave of the real polkit."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from box import ROOT, Box, until

# below a home directory, which the daemon's sandbox does not show, and known there to its unit only
PROGRAM, WORKER = "/root/own/worker", "worker.service"
CALLS = 997
POLKIT_RULE = "/etc/polkit-1/rules.d/10-test.rules"
ALLOWS_NOBODY = (
    'polkit.addRule(function(action, subject) { if (action.id == "org.osdetector1.trace" && subject.user == "nobody")'
    " return polkit.Result.YES; });\n"
)
AS_NOBODY = ("runuser", "-u", "nobody", "--")


@pytest.fixture
def worker(box: Box) -> Iterator[int]:
    """A service that works when a line comes through its fifo; its main process."""
    box.run("mkdir", "-p", "/root/own")
    box.run("gcc", "-O2", "-o", PROGRAM, str(ROOT / "tests/bpf/probed.c"), "-pthread")
    box.run("mkfifo", "/run/orders")
    command = f"exec {PROGRAM} search {CALLS} word <>/run/orders"
    box.run("systemd-run", f"--unit={WORKER}", "--property=PrivateTmp=yes", "sh", "-c", command)
    until("the worker runs", lambda: box.run("cat", f"/proc/{box.main_pid(WORKER)}/comm").strip() == "worker")
    box.run("systemctl", "start", "osdetectord.service")
    until("the daemon answers", lambda: box.try_run("osdctl", "status").returncode == 0)
    yield box.main_pid(WORKER)
    box.run("systemctl", "stop", WORKER)
    box.run("rm", "-f", "/run/orders", POLKIT_RULE)
    for target in box.osdctl_json("list"):
        box.run("osdctl", "unwatch", str(target["id"]))


def work(box: Box) -> None:
    box.run("sh", "-c", "printf w >/run/orders")


def test_a_service_s_functions_are_probed_from_within_the_sandbox(box: Box, worker: int) -> None:
    target = json.loads(box.run("osdctl", "--json=short", "watch", f"unit:{WORKER}"))
    added = json.loads(box.run("osdctl", "--json=short", "probe", "add", ":search", "--target", str(target["id"])))
    assert [(place["pid"], place["trouble"]) for place in added["places"]] == [(worker, "")]
    work(box)
    stats = ("probe", "stats", str(added["id"]))
    until("all calls are counted", lambda: box.osdctl_json(*stats)["calls"] == CALLS)
    assert box.osdctl_json(*stats)["lost"] == 0


def test_lines_of_a_trace_name_the_process_as_the_machine_does(box: Box, worker: int) -> None:
    trace = json.loads(
        box.run("osdctl", "--json=short", "trace", "add", "search(n: int, name: str) -> int", "--pid", str(worker))
    )
    work(box)
    until("all lines are there", lambda: box.osdctl_json("trace", "list")[0]["lines"] == CALLS)
    shown = box.try_run("timeout", "5", "osdctl", "--json=short", "trace", "follow", "-n7", str(trace["id"]))
    assert shown.stdout, shown
    lines = [json.loads(line) for line in shown.stdout.splitlines()]

    assert [line["text"] for line in lines] == [
        f'search(n={n}, name="word") = {2 * n - 1}' for n in range(CALLS - 7, CALLS)
    ]
    assert {(line["pid"], line["tid"]) for line in lines} == {(worker, worker)}


def test_who_has_polkit_s_leave_may_trace_and_nobody_else(box: Box, worker: int) -> None:
    words = ("osdctl", "trace", "add", "search(n: int)", "--pid", str(worker))
    refused = box.try_run(*AS_NOBODY, *words)
    assert refused.returncode == 4
    assert len(refused.stderr.splitlines()) == 1
    assert "org.osdetector1.trace" in refused.stderr
    box.write(POLKIT_RULE, ALLOWS_NOBODY)
    until("polkit has read its rule", lambda: box.try_run(*AS_NOBODY, *words).returncode == 0)


def test_libraries_of_a_service_are_probed(box: Box, worker: int) -> None:
    added = json.loads(box.run("osdctl", "--json=short", "probe", "add", "libc:read", "--pid", str(worker)))
    work(box)
    until("reads are counted", lambda: box.osdctl_json("probe", "stats", str(added["id"]))["calls"] > 0)


def test_allocations_of_a_service_are_priced_and_counted_from_within_the_sandbox(box: Box, worker: int) -> None:
    box.run("mkfifo", "/run/leaks")
    command = f"exec {PROGRAM} leak <>/run/leaks"
    box.run("systemd-run", "--unit=leaking.service", "--property=PrivateTmp=yes", "sh", "-c", command)
    try:
        until("it runs", lambda: box.run("cat", f"/proc/{box.main_pid('leaking.service')}/comm").strip() == "worker")
        words = ("allocations", "add", "--pid", str(box.main_pid("leaking.service")), "--yes")
        done = box.try_run("osdctl", "--json=short", *words)
        assert done.returncode == 0, done
        assert "each malloc takes" in done.stderr + done.stdout
        number = str(box.osdctl_json("allocations", "list")[0]["id"])
        box.run("sh", "-c", "printf w >/run/leaks")
        shown = ("allocations", "show", number)
        until("the leak is counted", lambda: box.osdctl_json(*shown)["bytes"] == 101 * 1009 + 13 * 77)
        most = box.osdctl_json("allocations", "top", number)
        assert most[0]["frames"][0].startswith("take_much+")
    finally:
        box.run("systemctl", "stop", "leaking.service")
        box.run("rm", "-f", "/run/leaks")
