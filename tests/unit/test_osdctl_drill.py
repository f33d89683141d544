"""The drill: its program does what it is told and goes; what is told of it, or not, is the exit status."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time

import pytest

from osdctl import faulty
from osdctl.commands import drill
from osdctl.errors import OsdctlError
from osdctl.manager import Event
from osdctl.model import Anomaly, Target
from osdctl.text import Look


class Manager:
    """A daemon that learns in a few looks, and tells the fault or does not."""

    def __init__(self, states, tells, tells_early=False):
        self.states, self.tells, self.tells_early = list(states), tells, tells_early
        self.pid = self.unwatched = 0

    async def events(self):
        return self.told()

    async def told(self):
        def opened(pid, number=7, ago_s=0):
            at_us = time.time_ns() // 1000 - ago_s * 1_000_000
            return Event("opened", anomaly=Anomaly(number, 1, f"pid:{pid}", pid, "python3", "open", "anomaly", at_us, 0,
                                                   2.0, 0.01, (), (), "descriptors 500", 0, ""))  # fmt: skip

        yield opened(self.pid + 1)  # of another process
        yield Event("changed", details={})
        if self.tells_early:
            yield opened(self.pid, 3, ago_s=5)
        if self.tells:
            yield opened(self.pid)
        await asyncio.sleep(3600)

    async def watch(self, spec, *, runtime, children):
        assert runtime
        self.pid = int(spec.removeprefix("pid:"))
        return await self.target("")

    async def target(self, path):
        state, progress = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return Target(1, f"pid:{self.pid}", state, 0, False, False, 0, 0.0, progress, (), {})

    async def unwatch(self, target):
        self.unwatched += 1


LEARNS = [("learning", 0.0), ("learning", 0.5), ("normal", 1.0)]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(drill, "SETTLE_S", 0.02)
    monkeypatch.setattr(drill, "STANDSTILL_S", 0.1)
    monkeypatch.setattr(drill, "LOOK_S", 0.01)


def play(manager, fault="descriptors", limit=60, **look):
    return asyncio.run(drill.run(argparse.Namespace(fault=fault, limit=limit, look=Look(**look)), manager))


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_fault_that_is_told_is_success_with_its_seconds_and_leaves_nothing(capsys):
    manager = Manager(LEARNS, tells=True)
    answer = play(manager)
    assert answer.status == 0 and answer.text.startswith("told after ")
    assert answer.text.endswith("s: #7 descriptors 500\n")
    assert manager.unwatched == 1 and gone(manager.pid)
    assert "the fault: files are opened and not closed" in capsys.readouterr().err


def test_a_fault_that_is_not_told_is_failure_and_leaves_nothing(capsys):
    manager = Manager(LEARNS, tells=False)
    answer = play(manager, limit=0.05)
    assert (answer.status, answer.text) == (1, "") and "was not told within 50ms" in capsys.readouterr().err
    assert manager.unwatched == 1 and gone(manager.pid)


def test_what_was_told_before_the_fault_is_not_the_fault():
    assert play(Manager(LEARNS, tells=True, tells_early=True)).text.endswith("s: #7 descriptors 500\n")
    assert play(Manager(LEARNS, tells=False, tells_early=True), limit=0.05).status == 1


def test_json_says_whether_it_was_told():
    told = json.loads(play(Manager(LEARNS, tells=True), json="short").text)
    assert (told["told"], told["anomaly"]["id"]) == (True, 7)
    assert json.loads(play(Manager(LEARNS, tells=False), limit=0.05, json="short").text)["told"] is False


def test_a_daemon_that_does_not_learn_is_not_waited_for_for_ever():
    manager = Manager([("learning", 0.25)], tells=True)
    with pytest.raises(OsdctlError, match=r"learns nothing of .*: learning, 25 %"):
        play(manager)
    assert manager.unwatched == 1 and gone(manager.pid)


@pytest.mark.parametrize("fault", sorted(faulty.FAULTS))
def test_the_program_is_quiet_until_told_then_goes_wrong_and_ends_with_its_input(fault):
    child = subprocess.Popen([sys.executable, faulty.__file__, fault], stdin=subprocess.PIPE)
    proc = f"/proc/{child.pid}"

    def measure():
        if fault == "descriptors":
            return len(os.listdir(f"{proc}/fd"))
        with open(f"{proc}/stat") as file:
            stat = file.read().rpartition(")")[2].split()
        return int(stat[11]) if fault == "loop" else int(stat[21])

    try:
        deadline = time.monotonic() + 60
        while len(os.listdir(f"{proc}/task")) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)  # until it listens
        before = measure()
        more = {"loop": 30, "memory": 10 << 8, "descriptors": 40}[fault]  # ticks, pages, files
        time.sleep(0.5)
        assert measure() < before + more
        child.stdin.write(b"now\n")
        child.stdin.flush()
        deadline = time.monotonic() + 60
        while measure() < before + more and time.monotonic() < deadline:
            time.sleep(0.05)
        assert measure() >= before + more
    finally:
        child.stdin.close()
    assert child.wait(60) == 0
