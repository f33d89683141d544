"""The allocations of processes stay steerable when attaching fails, whatever of."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections import Counter
from dataclasses import replace

import pytest

from osdetectord import allocating
from osdetectord.allocating import Allocating
from osdetectord.core import Caller
from osdetectord.errors import NoSuchTarget, Unsupported
from osdetectord.probing import allocations as probing
from osdetectord.probing.allocations import AllocationView, _Calibration

ROOT = Caller(":1.1", 0)
NO_DESCRIPTOR = OSError(errno.EMFILE, "Too many open files")


class Counting:
    """Stands for :class:`osdetectord.probing.allocations.Allocations`."""

    def __init__(self):
        self.all = {}
        self.next = 1
        self.fails = {}

    def add(self, pid, *, library="libc", budget=0):
        if pid in self.fails:
            raise self.fails[pid]
        self.all[self.next] = AllocationView(pid, pid, 1, pid, 1, 0, 0, "on")
        self.next += 1
        return self.next - 1

    def remove(self, number):
        if self.all.pop(number, None) is None:
            raise NoSuchTarget(f"no allocations {number}")

    def tick(self, now_ns, execed=(), exited=()):
        return ()

    def view(self, number):
        return self.all[number]

    def list(self):
        return tuple(self.all.items())

    def lost(self):
        return {}


class Bus:
    def __init__(self):
        self.told = Counter()

    def instrument_added(self, view):
        self.told["added"] += 1

    def instrument_changed(self, view):
        self.told["changed"] += 1

    def instrument_removed(self, view):
        self.told["removed"] += 1


class NoProcesses:
    def remove_all(self, series):
        assert not series


class World:
    """One target, whose processes come and go."""

    def __init__(self):
        self.members, self.manager, self.bus = [11, 13], Counting(), Bus()
        self.allocating = Allocating(self.manager, NoProcesses(), lambda *_: self.members, self.bus, lambda _: None)

    def troubles(self):
        return {each.pid: each.trouble for each in self.allocating.get(1).processes}


def test_a_process_for_which_no_descriptor_is_free_is_told_and_tried_again_and_all_goes_on(monkeypatch):
    monkeypatch.setattr(allocating, "RETRY_NS", 0)
    monkeypatch.setattr(allocating, "RETRY_MAX_NS", 0)

    async def play():
        world = World()
        assert await world.allocating.add({"target": 7}, ROOT) == 1
        # one is replaced by another program, one comes that can't be attached to
        (ended,) = [number for number, view in world.manager.all.items() if view.pid == 11]
        world.manager.all[ended] = replace(world.manager.all[ended], state="ended")
        world.manager.fails = {11: NO_DESCRIPTOR, 17: NO_DESCRIPTOR}
        world.members = [11, 13, 17]
        for _ in range(2):
            await world.allocating._step()
            assert {pid for pid, why in world.troubles().items() if "Too many open files" in why} == {11, 17}
        world.manager.fails = {}
        await world.allocating._step()
        assert set(world.troubles().values()) == {""}
        assert sorted(view.pid for view in world.manager.all.values()) == [11, 13, 17]
        await world.allocating.remove(1, ROOT)
        assert not world.manager.all and not world.allocating.views() and world.bus.told["removed"] == 1

    asyncio.run(play())


def test_what_is_gone_from_below_is_attached_to_again_and_can_be_removed():
    async def play():
        world = World()
        await world.allocating.add({"target": 7}, ROOT)
        world.manager.all.clear()
        await world.allocating._step()
        assert sorted(view.pid for view in world.manager.all.values()) == [11, 13]
        world.manager.all.clear()
        world.members = []
        await world.allocating.remove(1, ROOT)
        assert not world.allocating.views()

    asyncio.run(play())


def test_where_no_descriptor_is_free_at_all_adding_is_refused_with_why_and_leaves_nothing():
    async def play():
        world = World()
        world.manager.fails = dict.fromkeys(world.members, NO_DESCRIPTOR)
        with pytest.raises(Unsupported, match="allocator of process 11 can't be probed: Too many open files"):
            await world.allocating.add({"target": 7}, ROOT)
        assert not world.allocating.views() and not world.manager.all

    asyncio.run(play())


def test_a_child_that_is_stopped_ends_the_measuring_of_the_price_and_is_gone(monkeypatch):
    with pytest.raises(Unsupported, match="says nothing for"), _Calibration() as child:
        assert all(each > 0 for each in child.measure())
        monkeypatch.setattr(probing, "ANSWER_S", 0.05)
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
        child.measure()
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_child_that_ends_at_once_is_told_and_leaves_no_descriptor(monkeypatch):
    monkeypatch.setattr(probing, "CALIBRATION", "raise SystemExit")
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(Unsupported, match="has ended"), _Calibration():
        pass
    assert sorted(os.listdir("/proc/self/fd")) == before
