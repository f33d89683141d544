"""Real programs in this kernel; truth is a known number of known events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from osdetectord.collectors import layout
from osdetectord.sampler import ProcessSeries, Sampler, Tick
from tests.bpf.obedient import Workload

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def shared() -> Iterator[Sampler]:
    sampler = Sampler.open()
    yield sampler
    sampler.close()


@contextmanager
def served(usual: Sampler, collector: type, rank: int) -> Iterator[Sampler]:
    """A sampler in which this one of its hooks serves a collector: the usual one where it does there."""
    (view,) = (view for view in usual.hooks if view.collector == collector.name)
    if view.rank == rank:
        yield usual
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collector, "hooks", collector.hooks[rank:])
        sampler = Sampler.open(max_processes=256)
        yield sampler
        sampler.close()


@pytest.fixture
def sampler(shared: Sampler) -> Iterator[Sampler]:
    """The one kernel part of this session, empty before and after each test."""
    yield shared
    assert emptied(shared) == {}


@pytest.fixture
def workload() -> Iterator[Workload]:
    work = Workload()
    yield work
    work.end()


def tick(sampler: Sampler) -> Tick:
    return sampler.tick(time.monotonic_ns())


def count_of(sampler: Sampler, process: ProcessSeries, name: str) -> int:
    return next((total.count for total in sampler.syscalls(process.series) if total.name == name), 0)


def leftovers(sampler: Sampler) -> dict[str, int]:
    """Entries of the kernel's tables, by table, of those that are not empty."""
    tables = ("threads", "requests", *layout.BY_CALL, *layout.BY_SERIAL)
    sizes = {name: len(sampler._kernel.maps[name].read()[0]) for name in tables}
    suspects = int(sampler._kernel.maps["suspects"].read()[1].sum())
    return {name: size for name, size in {**sizes, "suspects": suspects}.items() if size}


def emptied(sampler: Sampler, seconds: float = 60.0) -> dict[str, int]:
    """Watch nobody any more; returns what is left in the kernel's tables after all chances to go."""
    end = time.monotonic() + seconds
    while True:
        sampler.remove_all(tick(sampler).frame.series.tolist())
        # A process that has ended is known until its last thread is off its CPU, and a system call that was under
        # way while its process was removed may write once more: that is what the sweep is for.
        sampler._kernel.sweep(sampler._kernel.maps["processes"].read()[0])
        left = leftovers(sampler)
        if not (left or sampler._entries) or time.monotonic() > end:
            return left
        time.sleep(0.02)


def until(sampler: Sampler, condition, seconds: float = 10.0) -> list[Tick]:
    """Tick until a condition on all ticks so far holds."""
    ticks: list[Tick] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ticks.append(tick(sampler))
        if condition(ticks):
            return ticks
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {[(t.started, t.exited) for t in ticks if t.started or t.exited]}")
