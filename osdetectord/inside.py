"""What goes on in a target's processes: latencies, system calls and threads, looked at only when somebody asks."""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import zip_longest
from time import monotonic_ns
from typing import Protocol

from osdetectord import tasks
from osdetectord.collectors.block import Latency
from osdetectord.collectors.histogram import UNIT_S, Histogram
from osdetectord.collectors.syscalls import SyscallTotal
from osdetectord.core import LatencyView, SyscallView, ThreadView
from osdetectord.errors import InvalidArgument, NoSuchTarget

KINDS = ("cpu", "block")


class Counts(Protocol):
    """Knows what processes did; :class:`osdetectord.sampler.Sampler` is it.  Raises NoSuchTarget for one that ended."""

    def waits(self, series: int) -> tuple[int, ...]: ...
    def block_latency(self, series: int) -> Latency: ...
    def syscalls_of(self, series: Sequence[int]) -> tuple[SyscallTotal, ...]: ...


class Inside:
    """See :class:`osdetectord.core.Inside`.

    Reading takes milliseconds and waits for a tick that is under way: it is done in other threads, one at a time.

    Parameters
    ----------
    counts
        The sampler.
    members
        Series and pid of each of a target's processes.  Raises NoSuchTarget.
    """

    def __init__(self, counts: Counts, members: Callable[[int], Mapping[int, int]]) -> None:
        self._counts, self._members = counts, members
        self._one = asyncio.Lock()

    async def latency(self, target: int, kind: str) -> Mapping[str, LatencyView]:
        """Return histograms, summed over the target's processes."""
        if kind not in KINDS:
            raise InvalidArgument(f"no latency {kind!r}, expected {' or '.join(KINDS)}")
        members = self._members(target)
        async with self._one:
            found = await asyncio.to_thread(self._waits if kind == "cpu" else self._block, list(members))
        return {name: _view(histograms) for name, histograms in found.items()}

    def _waits(self, series: Sequence[int]) -> dict[str, list[Histogram]]:
        out = []
        for one in series:
            with suppress(NoSuchTarget):
                out.append(Histogram(self._counts.waits(one)))
        return {"wait": out}

    def _block(self, series: Sequence[int]) -> dict[str, list[Histogram]]:
        out = []
        for one in series:
            with suppress(NoSuchTarget):
                out.append(self._counts.block_latency(one))
        return {"read": [each.reads for each in out], "write": [each.writes for each in out]}

    async def syscalls(self, target: int) -> Sequence[SyscallView]:
        """Return every system call, summed over the target's processes, most time first."""
        members = self._members(target)
        async with self._one:
            found = await asyncio.to_thread(self._counts.syscalls_of, list(members))
        return [
            SyscallView(
                each.number,
                each.name,
                each.count,
                each.errors,
                each.total_ns * 1e-9,
                each.longest_ns * 1e-9,
                {errno.errorcode.get(number, str(number)): count for number, count in each.failures},
            )
            for each in found
        ]

    async def threads(self, target: int, seconds: float, limit: int) -> Sequence[ThreadView]:
        """Return the target's threads, those first that were on a CPU for longest while it was looked."""
        pids = list(self._members(target).values())
        async with self._one:
            before_ns, before = monotonic_ns(), await asyncio.to_thread(tasks.run_times, pids)
        await asyncio.sleep(seconds)
        async with self._one:
            now_ns = monotonic_ns()
            return await asyncio.to_thread(_busiest, pids, before, (now_ns - before_ns) * 1e-9, limit)


def _busiest(
    pids: Sequence[int], before: Mapping[tuple[int, int], int], passed_s: float, limit: int
) -> list[ThreadView]:
    now = tasks.run_times(pids)
    rise = {key: ns - before.get(key, 0) for key, ns in now.items()}
    out = []
    for pid, tid in sorted(now, key=lambda key: (-rise[key], -now[key], key)):
        task = tasks.task_of(pid, tid)
        if task is None:
            continue
        share = min(1.0, max(0, rise[pid, tid]) * 1e-9 / passed_s)
        out.append(
            ThreadView(pid, tid, task.comm, task.state, share, now[pid, tid] * 1e-9, task.voluntary, task.involuntary)
        )
        if len(out) == limit:
            break
    return out


def _view(histograms: Sequence[Histogram]) -> LatencyView:
    counts = tuple(sum(column) for column in zip_longest(*(each.counts for each in histograms), fillvalue=0))
    whole = Histogram(counts)
    filled = [power for power, count in enumerate(counts) if count]
    longest_s = math.nan
    if filled:
        longest_s = math.inf if filled[-1] == len(counts) - 1 else 2.0 ** (filled[-1] + 1) * UNIT_S
    return LatencyView(counts, whole.quantile(0.5), whole.quantile(0.99), longest_s)
