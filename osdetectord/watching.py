"""The targets: which processes each has now, and what is known of them."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from osdetectord import wall
from osdetectord.core import ProcessView, TargetView
from osdetectord.errors import (
    InvalidArgument,
    NoSuchProcess,
    NoSuchTarget,
    OsdetectorError,
    TooManyTargets,
    Unsupported,
)
from osdetectord.matching import Matcher
from osdetectord.measured import GROUPS, LARGEST
from osdetectord.process import Process
from osdetectord.sampler import Exited, ProcessSeries
from osdetectord.target import Spec, SpecKind, parse_spec
from osdetectord.trouble import Troubles
from osdetectord.verdict import Verdict

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_DIGITS = re.compile(r"\d+")
_MAX_PROGRAM = 512


class Processes(Protocol):
    """Where processes are watched; :class:`osdetectord.sampler.Sampler` is it."""

    def add(self, pid: int, follow_children: bool = True) -> ProcessSeries: ...
    def remove_all(self, series: Collection[int]) -> None: ...


class Unit(Protocol):
    """A unit as the service manager tells it."""

    @property
    def control_group(self) -> str: ...


class Units(Protocol):
    """Asks the service manager for a unit; raises NoSuchUnit or Unsupported."""

    async def unit_processes(self, unit: str) -> Unit: ...


@dataclass(slots=True)
class Part:
    """A function of a process that is probed, or its allocations: a series of its own for the detector."""

    series: int
    group: str
    label: str
    names: tuple[str, ...]
    """How people call its metrics."""
    values: tuple[float, ...] = ()
    """Newest samples, NaN where missing."""
    score: float = 0.0
    alarm: bool = False
    low: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """The range that is expected of each metric, empty or NaN while learning."""
    high: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(slots=True)
class Member:
    """A watched process, and what the detector said of it last."""

    series: int
    process: Process
    comm: str
    program: str
    since_s: float
    told: bool = False
    """Whether the detector watches it."""
    score: float = 0.0
    p_value: float = 1.0
    progress: float = 0.0
    alarm: bool = False
    row: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    low: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """The range that is expected of each metric, empty or NaN while learning."""
    high: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    parts: dict[int, Part] = field(default_factory=dict)
    """By series."""

    @property
    def anomalous(self) -> bool:
        """Whether it, or a part of it, is out of order now."""
        return self.alarm or any(part.alarm for part in self.parts.values())

    @property
    def loudest(self) -> float:
        """The highest score, of it and of its parts."""
        return max(self.score, *(part.score for part in self.parts.values())) if self.parts else self.score

    def view(self) -> ProcessView:
        """Return it as the bus shows it."""
        state = "anomalous" if self.anomalous else "normal" if self.progress >= 1 else "learning"
        start_us = wall.of_start_us(self.process.start_ticks, _TICKS_PER_S)
        return ProcessView(self.process.pid, start_us, self.comm, state, self.loudest, self.progress)


@dataclass(slots=True)
class Target:
    """What the user asked to watch."""

    number: int
    spec: Spec
    since_us: int
    persistent: bool
    follow_children: bool
    muted_until_us: int = 0
    group: str = ""
    """Control group of a unit, as the service manager told it last."""
    roots: set[int] = field(default_factory=set)
    """Series that match the specification themselves; the rest of the members are children."""
    members: set[int] = field(default_factory=set)


class Watching:
    """All targets and their processes.

    Parameters
    ----------
    processes
        Takes processes into the kernel's watch.
    matcher, units
        Find the processes of a specification.
    metrics
        Names of the columns of the samples.
    max_targets
        Bound on targets.
    """

    def __init__(
        self, processes: Processes, matcher: Matcher, units: Units, metrics: tuple[str, ...], max_targets: int
    ) -> None:
        self._processes, self._matcher, self._units = processes, matcher, units
        self._metrics = metrics
        self.max_targets = max_targets
        self.targets: dict[int, Target] = {}
        self.members: dict[int, Member] = {}
        self.next_number = 1
        """Number of the next target; one that was given is never given again, over restarts too."""
        self._one_watch = asyncio.Lock()
        self._unmatched = Troubles("%s takes in no processes", "%s takes in processes again")
        self._untaken = Troubles("taking in %s failed", "taking in %s fails no longer")

    # ---- asked for by people

    def find(self, spec: Spec) -> Target | None:
        """Return the target of that specification, if there is one."""
        return next((target for target in self.targets.values() if target.spec == spec), None)

    def get(self, number: int) -> Target:
        """Return a target; raises :class:`NoSuchTarget`."""
        try:
            return self.targets[number]
        except KeyError:
            raise NoSuchTarget(f"no target {number}") from None

    async def watch(self, text: str, persistent: bool, follow_children: bool) -> tuple[Target, bool]:
        """Watch what ``text`` means; returns the target, and whether it is new.

        Raises
        ------
        OsdetectorError
            If the specification means nothing that there is, or a bound is reached.
        """
        spec = parse_spec(text)
        async with self._one_watch:
            known = self.find(spec)
            if known is not None:
                return known, False
            if len(self.targets) >= self.max_targets:
                raise TooManyTargets(f"{len(self.targets)} targets are watched, max_targets is {self.max_targets}")
            target = Target(self.next_number, spec, wall.now_us(), persistent, follow_children)
            await self._resolve(target)
            self.next_number += 1
            self.targets[target.number] = target
            return target, True

    async def restore(self, saved: Mapping[str, Any]) -> Target:
        """Watch again what :meth:`saved` wrote; raises :class:`OsdetectorError` where it is gone."""
        spec = parse_spec(str(saved["spec"]))
        target = Target(
            int(saved["number"]),
            spec,
            int(saved["since_us"]),
            True,
            bool(saved["follow_children"]),
            int(saved["muted_until_us"]),
        )
        self.next_number = max(self.next_number, target.number + 1)
        if spec.kind is SpecKind.PID and saved.get("boot") != _boot_id():
            raise NoSuchProcess(f"no process {spec.pid} any more: the machine has been booted anew")
        try:
            await self._resolve(target)
        except Unsupported:
            # the service manager is not on the bus yet, and will be asked again
            if spec.kind is not SpecKind.UNIT:
                raise
        started = [self.members[series].process.start_ticks for series in target.roots]
        if spec.kind is SpecKind.PID and saved.get("start_ticks") not in started:
            self._drop(target.members, target)
            raise NoSuchProcess(f"no process {spec.pid} any more: another one has its number")
        self.targets[target.number] = target
        return target

    def saved(self) -> list[dict[str, Any]]:
        """Return what must be kept over a restart of the daemon."""
        out = []
        for target in self.targets.values():
            if not target.persistent:
                continue
            started = [self.members[series].process.start_ticks for series in target.roots]
            out.append(
                {
                    "number": target.number,
                    "spec": str(target.spec),
                    "since_us": target.since_us,
                    "follow_children": target.follow_children,
                    "muted_until_us": target.muted_until_us,
                    "boot": _boot_id(),
                    "start_ticks": started[0] if started else 0,
                }
            )
        return out

    def remove(self, number: int) -> list[int]:
        """Watch a target no more; returns the series that nobody watches any more."""
        target = self.get(number)
        del self.targets[number]
        return self._drop(target.members, target)

    # ---- told by the kernel

    def started(self, child: ProcessSeries) -> list[Target]:
        """Take in a child of a watched process; returns its targets."""
        if child.series in self.members:
            return []
        parents = [t for t in self.targets.values() if child.parent_series in t.members and t.follow_children]
        if parents:
            self._member(child)
        for target in parents:
            target.members.add(child.series)
        return parents

    def execed(self, now: ProcessSeries) -> Member | None:
        """Note that a process runs another program now; returns it where it is watched."""
        member = self.members.get(now.series)
        if member is not None:
            member.comm = now.info.comm
            member.program = self._program(now)
        return member

    def exited(self, end: Exited) -> list[tuple[Target, bool]]:
        """Let a process go; returns its targets, and whether it was what the target names."""
        self.members.pop(end.series, None)
        out = []
        for target in self.targets.values():
            if end.series in target.members:
                out.append((target, end.series in target.roots))
                target.members.discard(end.series)
                target.roots.discard(end.series)
        return out

    def is_over(self, target: Target) -> bool:
        """Return whether a target can never have a process again."""
        return target.spec.kind is SpecKind.PID and not target.members

    def appeared(self, pids: Iterable[int]) -> list[Target]:
        """Take in processes that newly match; returns the targets that changed."""
        changed: list[Target] = []
        pids = list(pids)
        if not pids:
            return changed
        for target in self.targets.values():
            if target.spec.kind is SpecKind.PID:
                continue
            with self._unmatched.apart(str(target.spec)):
                found = self._matcher.among(pids, target.spec, target.group)
                if self._take(target, found):
                    changed.append(target)
        return changed

    def rescan(self) -> list[Target]:
        """Look through all processes for such as no event told of; returns the targets that changed."""
        if all(target.spec.kind is SpecKind.PID for target in self.targets.values()):
            return []
        known = {member.process.pid for member in self.members.values()}
        return self.appeared(pid for pid in self._matcher.pids() if pid not in known)

    def heard(self, verdict: Verdict) -> set[int]:
        """Note the detector's newest word; returns the numbers of the targets whose state changed."""
        before = self.states()
        columns = (verdict.score, verdict.p_value, verdict.progress, verdict.alarm)
        for at, (series, score, p_value, progress, alarm) in enumerate(
            zip(verdict.series.tolist(), *(column.tolist() for column in columns), strict=True)
        ):
            member = self.members.get(series)
            if member is not None:
                member.score, member.p_value, member.progress, member.alarm = score, p_value, progress, alarm
                member.low, member.high = verdict.low[at], verdict.high[at]
        return self.changed_since(before)

    def states(self) -> dict[int, str]:
        """Return the state of each target."""
        return {number: self.state(target) for number, target in self.targets.items()}

    def changed_since(self, before: Mapping[int, str]) -> set[int]:
        """Return the numbers of the targets that are in another state than they were."""
        return {number for number, state in self.states().items() if state != before.get(number)}

    # ---- shown

    def pids(self, number: int) -> dict[int, int]:
        """Return the pid of each process of a target, by series; raises :class:`NoSuchTarget`."""
        return {series: self.members[series].process.pid for series in self.get(number).members}

    def targets_of(self, series: int) -> list[Target]:
        """Return the targets of a process, the oldest first."""
        return [target for target in self.targets.values() if series in target.members]

    def state(self, target: Target) -> str:
        """Return ``waiting``, ``learning``, ``normal``, ``anomalous`` or ``gone``."""
        if not target.members:
            return "gone" if target.spec.kind is SpecKind.PID else "waiting"
        members = [self.members[series] for series in target.members]
        if any(member.anomalous for member in members):
            return "anomalous"
        return "normal" if any(member.progress >= 1 for member in members) else "learning"

    def view(self, target: Target) -> TargetView:
        """Return it as the bus shows it."""
        members = sorted((self.members[series] for series in target.members), key=lambda member: member.process.pid)
        row = self.row(target)
        measured = () if row is None else zip(self._metrics, row.tolist(), strict=True)
        return TargetView(
            number=target.number,
            spec=str(target.spec),
            state=self.state(target),
            since_us=target.since_us,
            persistent=target.persistent,
            follow_children=target.follow_children,
            muted_until_us=target.muted_until_us,
            score=max((member.loudest for member in members), default=0.0),
            progress=max((member.progress for member in members), default=0.0),
            processes=tuple(member.view() for member in members),
            latest={n: v for n, v in (*measured, *self.of_parts(target).items()) if v == v},
        )

    def row(self, target: Target) -> NDArray[np.float64] | None:
        """Return the newest samples summed over the target's processes, shape ``(metrics,)``."""
        rows = [self.members[series].row for series in target.members if self.members[series].row.size]
        if not rows:
            return None
        table = np.array(rows)
        return np.where(np.isnan(table).all(axis=0), np.nan, np.nansum(table, axis=0))

    def of_parts(self, target: Target) -> dict[str, float]:
        """Return the newest samples of the parts of the target's processes, by name, NaN where missing.

        Quantiles are those of the process with the largest, everything else is summed.
        """
        out: dict[str, float] = {}
        for series in target.members:
            for part in self.members[series].parts.values():
                for metric, name, value in zip(GROUPS[part.group], part.names, part.values, strict=False):
                    known = out.get(name, np.nan)
                    both = max(known, value) if metric.name in LARGEST else known + value
                    out[name] = both if known == known and value == value else value if value == value else known
        # in one order, whoever comes and goes: the history keeps each order of columns as its own
        return dict(sorted(out.items()))

    def expected(self, target: Target) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Return the range expected of each metric, summed over the target's processes, shape ``(metrics,)`` each.

        Processes that are not judged yet count with what they do; where none is judged there is no range.
        """
        members = [member for series in target.members if (member := self.members[series]).row.size]
        judged = [member for member in members if member.low.size and np.isfinite(member.low).any()]
        if not judged:
            return None
        young = [member.row for member in members if member not in judged]
        # no metric of a process is negative, whatever the spread of its past says
        low = np.array([np.maximum(member.low, 0.0) for member in judged] + young)
        high = np.array([np.maximum(member.high, 0.0) for member in judged] + young)
        known = np.isfinite(high).any(axis=0)
        return np.where(known, np.nansum(low, axis=0), np.nan), np.where(known, np.nansum(high, axis=0), np.nan)

    def __iter__(self) -> Iterator[Target]:
        return iter(self.targets.values())

    # ---- within

    async def _resolve(self, target: Target) -> None:
        spec = target.spec
        if spec.kind is SpecKind.PID:
            series = self._processes.add(spec.pid, target.follow_children)
            self._member(series)
            target.roots.add(series.series)
            target.members.add(series.series)
            return
        if spec.kind is SpecKind.UNIT:
            target.group = (await self._units.unit_processes(spec.value)).control_group
        self._take(target, self._matcher.find(spec, target.group))

    async def refresh_units(self) -> None:
        """Ask again for the control groups of units, which may have none while they are stopped."""
        for target in [t for t in self.targets.values() if t.spec.kind is SpecKind.UNIT and not t.members]:
            try:
                target.group = (await self._units.unit_processes(target.spec.value)).control_group
            except OsdetectorError:
                continue

    def _take(self, target: Target, pids: Iterable[int]) -> bool:
        changed = False
        for pid in pids:
            # it ended meanwhile, is the kernel's own, or the sampler's count of refusals tells
            expected = suppress(NoSuchProcess, InvalidArgument, Unsupported, TooManyTargets)
            with self._untaken.apart(f"process {pid}"), expected:
                series = self._processes.add(pid, target.follow_children)
                if series.series not in target.members:
                    self._member(series)
                    target.roots.add(series.series)
                    target.members.add(series.series)
                    changed = True
        return changed

    def _member(self, series: ProcessSeries) -> None:
        if series.series not in self.members:
            info = series.info
            self.members[series.series] = Member(
                series.series, info.process, info.comm, self._program(series), time.monotonic()
            )

    def _program(self, series: ProcessSeries) -> str:
        """Return the key of what is learnt: the same for every run of the same program with the same arguments."""
        pid = series.info.process.pid
        unit = next(
            (part for part in reversed((self._matcher.cgroup(pid) or "").split("/")) if part.endswith(".service")), ""
        )
        command = _DIGITS.sub("0", self._matcher.cmdline(pid))
        return f"{unit} {series.info.exe or series.info.comm} {command}"[:_MAX_PROGRAM]

    def _drop(self, members: Iterable[int], but: Target) -> list[int]:
        others = {s for target in self.targets.values() if target is not but for s in target.members}
        gone = [series for series in members if series not in others]
        for series in gone:
            self.members.pop(series, None)
        self._processes.remove_all(gone)
        return gone


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
