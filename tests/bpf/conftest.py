"""Real programs in this kernel; truth is a known number of known events."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from osdetectord.collectors import layout  # noqa: E402
from osdetectord.sampler import ProcessSeries, Sampler, Tick  # noqa: E402

WORKLOAD = Path(__file__).with_name("workload.py")


class Workload:
    """A process that obeys; see workload.py."""

    def __init__(self, *prefix: str) -> None:
        self.process = subprocess.Popen(
            [*prefix, "/usr/bin/python3", "-S", str(WORKLOAD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.pid = self.process.pid
        self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(order + "\n")

    def do(self, order: str) -> str:
        self.tell(order)
        return self.answer()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session")
def shared() -> Iterator[Sampler]:
    sampler = Sampler.open()
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
