"""Allocations through the whole daemon: a program that leaks known bytes from known functions, asked by osdctl."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from private_bus import wait_until

from tests.bpf.obedient import PROBED
from tests.daemon.conftest import Run
from tests.daemon.whole_daemon import Daemon

HERE = Path(__file__).parent
MUCH, LITTLE = 101 * 1009, 13 * 77
"""Bytes that take_much() and take_little() of probed.c keep."""
BLOCKS = 101 + 13
CALLS = 499 * 11 + BLOCKS
"""Calls of the allocator in each round of work: give_back() takes six times and frees five, 499 times over."""


def show(daemon: Daemon, number: object) -> dict[str, object]:
    (found,) = daemon.ask("allocations", "show", number)
    return found


def holding(daemon: Daemon, number: object, count: int) -> dict[str, object]:
    """The allocations, once they hold so many bytes."""
    wait_until(lambda: show(daemon, number)["bytes"] == count)
    return show(daemon, number)


def add(daemon: Daemon, *words: object) -> dict[str, object]:
    (added,) = daemon.ask("allocations", "add", *words, "--yes")
    return added


def test_what_a_program_leaks_is_told_with_the_functions_that_leak_it(daemon: Daemon, run: Run) -> None:
    process = run("leak")
    added = add(daemon, "--pid", process.pid)
    assert (added["scope"], added["state"]) == (f"pid:{process.pid}", "on")
    for rounds in (1, 2):
        process.work()
        found = holding(daemon, added["id"], rounds * (MUCH + LITTLE))
        (row,) = found["processes"]
        assert (found["blocks"], found["lost"], row["pid"]) == (rounds * BLOCKS, 0, process.pid)
        assert row["allocations"] + row["frees"] == rounds * CALLS

    much, little = daemon.ask("allocations", "top", added["id"])
    assert (much["bytes"], much["blocks"], much["pid"]) == (2 * MUCH, 2 * 101, process.pid)
    assert (little["bytes"], little["blocks"]) == (2 * LITTLE, 2 * 13)
    assert much["frames"][0].startswith("take_much+")
    assert much["frames"][1].startswith("main+")
    assert little["frames"][0].startswith("take_little+")
    shown = daemon.osdctl("allocations", "top", added["id"], "-n1").stdout
    assert "take_much+" in shown
    assert "take_little+" not in shown


def test_the_price_is_told_before_anything_is_attached(daemon: Daemon, run: Run) -> None:
    process = run("leak")
    refused = daemon.osdctl("allocations", "add", "--pid", process.pid)

    assert refused.returncode == 1
    measured, _, why = refused.stderr.splitlines()
    assert "each malloc takes" in measured
    assert "no terminal to ask at; say --yes" in why
    assert daemon.ask("allocations", "list") == []
    (price,) = daemon.ask("allocations", "price")
    assert price["malloc_s"] > 0
    assert price["free_s"] > 0


@pytest.mark.parametrize("answer, wanted", [("y", True), ("n", False), ("", False)])
def test_on_a_terminal_it_is_asked_for(daemon: Daemon, run: Run, answer: str, wanted: bool) -> None:
    process = run("leak")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "osdctl", "allocations", "add", "--pid", str(process.pid)]
    asking = subprocess.Popen(
        command, env=daemon.environment, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True
    )
    os.close(theirs)
    said = ""
    while "[y/N]" not in said:
        said += os.read(ours, 4096).decode()
    # nothing is attached before the answer
    assert daemon.ask("allocations", "list") == []
    os.write(ours, f"{answer}\n".encode())
    assert asking.wait(30) == (0 if wanted else 1)
    os.close(ours)
    asking.communicate()

    assert "each malloc takes" in said
    assert [one["scope"] for one in daemon.ask("allocations", "list")] == ([f"pid:{process.pid}"] if wanted else [])


def test_the_processes_of_a_target_are_watched_as_they_come_and_end_with_it(daemon: Daemon, run: Run) -> None:
    first = run("leak")
    (target,) = daemon.ask("watch", f"exe:{first.path}")
    added = add(daemon, target["id"])
    assert added["scope"] == f"target:{target['id']}"
    first.work()
    holding(daemon, added["id"], MUCH + LITTLE)
    second = run("leak")
    wait_until(lambda: [not each["trouble"] for each in show(daemon, added["id"])["processes"]] == [True, True], 20)
    second.work()
    holding(daemon, added["id"], 2 * (MUCH + LITTLE))
    first.end()
    wait_until(lambda: [each["pid"] for each in show(daemon, added["id"])["processes"]] == [second.pid], 20)
    assert show(daemon, added["id"])["bytes"] == MUCH + LITTLE

    daemon.ask("unwatch", target["id"])
    wait_until(lambda: daemon.ask("allocations", "list") == [])
    second.work()


def test_they_end_with_their_process(daemon: Daemon, run: Run) -> None:
    process = run("leak")
    added = add(daemon, "--pid", process.pid)
    process.end()
    wait_until(lambda: daemon.ask("allocations", "list") == [])

    done = daemon.osdctl("allocations", "top", added["id"])
    assert (done.returncode, done.stderr) == (
        4,
        f"osdctl: no allocations {added['id']}; osdctl allocations list shows them\n",
    )
    assert daemon.ask("list") == []


def test_a_program_with_an_allocator_of_its_own_is_found(daemon: Daemon, run: Run, tmp_path: Path) -> None:
    build = ["gcc", "-O2", "-static", "-o", tmp_path / "static", PROBED, "-pthread"]
    subprocess.run(build, check=True)
    process = run("leak", path=tmp_path / "static")
    added = add(daemon, "--pid", process.pid)
    process.work()

    assert holding(daemon, added["id"], MUCH + LITTLE)["blocks"] == BLOCKS


def test_after_an_execution_the_count_begins_anew(daemon: Daemon, run: Run, program: Path) -> None:
    process = run("leak", "1", str(program))
    added = add(daemon, "--pid", process.pid)
    process.work()
    holding(daemon, added["id"], MUCH + LITTLE)
    process.tell("x")
    process.hears("ready")
    wait_until(lambda: show(daemon, added["id"])["bytes"] < MUCH)
    process.work()

    assert holding(daemon, added["id"], MUCH + LITTLE)["state"] == "on"


def test_who_calls_its_allocator_too_often_is_let_go_and_told(daemon: Daemon, run: Run) -> None:
    process, other = run("leak"), run("leak")
    added = add(daemon, "--pid", process.pid, "--budget", 997)
    process.work()
    wait_until(lambda: show(daemon, added["id"])["state"] == "over budget")

    told = daemon.waits_to_say(rf'\{{"MESSAGE": "allocations {added["id"]} is detached: .*\}}')
    record = json.loads(told[0])
    assert record["MESSAGE_ID"] == "e1a2b3c4d5f64708918273645a6b7c59"
    assert (record["OSDETECTOR_BUDGET"], record["OSDETECTOR_SCOPE"]) == (997, f"pid:{process.pid}")
    before = show(daemon, added["id"])["processes"]
    process.work()
    # once another's later work is counted, all that was counted of the first one's is shown
    others = add(daemon, "--pid", other.pid)
    other.work()
    holding(daemon, others["id"], MUCH + LITTLE)
    assert show(daemon, added["id"])["processes"] == before


def test_a_process_stays_watched_for_who_else_wants_it(daemon: Daemon, run: Run) -> None:
    process = run("leak")
    added = add(daemon, "--pid", process.pid)
    (target,) = daemon.ask("watch", process.pid)
    daemon.ask("allocations", "remove", added["id"])
    wait_until(lambda: daemon.ask("show", target["id"])[0]["latest"])
    added = add(daemon, target["id"])
    process.work()
    holding(daemon, added["id"], MUCH + LITTLE)


def test_what_cannot_be_watched_is_refused_in_one_line(daemon: Daemon, run: Run) -> None:
    pid, other = str(run("leak").pid), str(run("leak").pid)
    add(daemon, "--pid", pid)
    cases = {
        ("add", "--pid", "999999", "-qy"): (4, "no process 999999"),
        ("add", "--pid", pid, "-qy"): (2, f"the allocations of process {pid} are watched already"),
        ("add", "--pid", other, "-qy", "--library", "nolib"): (4, "maps no library nolib"),
        ("add", "--pid", other, "-qy", "--budget", "10000001"): (4, "at most 10000000"),
        ("add", "7", "-qy"): (4, "no target 7"),
        ("add", "-qy"): (2, "name a target, or a process with --pid"),
        ("add", "7", "--pid", pid, "-qy"): (2, "name a target, or a process with --pid"),
        ("remove", "97"): (4, "no allocations 97"),
        ("top", "97"): (4, "no allocations 97"),
        ("top", "1", "-n0"): (2, "from 1 to"),
    }
    for words, (status, said) in cases.items():
        done = daemon.osdctl("allocations", *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (status, 1), (words, done)
        assert said in done.stderr, (words, done)
    assert [one["scope"] for one in daemon.ask("allocations", "list")] == [f"pid:{pid}"]
    assert "Traceback" not in daemon.said()
