"""A daemon in memory behind the bus: records what it is asked, answers with known values."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from osdetectord.core import (
    AllocationsView,
    AnomalyView,
    BlameView,
    Caller,
    DetectorView,
    HeldView,
    HookView,
    LatencyView,
    ManagerView,
    PlaceView,
    PriceView,
    ProbeView,
    ProcessView,
    StackView,
    SyscallView,
    TargetView,
    ThreadView,
    TraceView,
)
from osdetectord.errors import InvalidArgument, NoSuchProcess, NoSuchTarget

START_US = 1_700_000_000_000_003
NO_SUCH_PID = 999_983
NAN = float("nan")


def a_target(number: int, spec: str = "pid:1009") -> TargetView:
    return TargetView(
        number=number,
        spec=spec,
        state="normal",
        since_us=START_US,
        persistent=True,
        follow_children=True,
        muted_until_us=0,
        score=0.25,
        progress=1.0,
        processes=(ProcessView(1009, START_US, "redis\x1b[31m\udcff", "normal", 0.25, 1.0),),
        latest={"cpu.on_cpu": 0.125, "memory.rss": 1e6},
    )


def an_anomaly(number: int, target: int = 1) -> AnomalyView:
    return AnomalyView(
        number=number,
        target=target,
        spec="pid:1009",
        pid=1009,
        comm="redis-server",
        state="open",
        kind="anomaly",
        opened_us=START_US + number,
        closed_us=0,
        score=9.5,
        p_value=3e-6,
        detectors=("level", "memory"),
        blames=(BlameView("memory.rss", "bytes", 0.8125, 2.5e8, 1.1e8, 1.3e8, START_US),),
        message="redis-server[1009]: resident memory 238 MiB, expected 105-124 MiB",
    )


def a_probe(number: int, location: str = "libc:malloc") -> ProbeView:
    return ProbeView(
        number=number,
        location=location,
        scope="pid:1009",
        state="on",
        since_us=START_US,
        budget=20_011,
        children=True,
        places=(PlaceView(1009, "/lib/libc.so.6", "malloc", 0x98C40, ""),),
        calls=997,
        rate=101.5,
        mean_s=3e-6,
        p50_s=2e-6,
        p99_s=float("nan"),
        lost=7,
    )


def a_trace(number: int, signature: str = "f(n: int)") -> TraceView:
    return TraceView(
        number=number,
        signature=signature,
        scope="target:1",
        state="waiting",
        since_us=START_US,
        budget=20_011,
        children=False,
        places=(PlaceView(1009, "", "", 0, "no function\x1b f"),),
        calls=11,
        rate=0.0,
        lines=13,
        lost=0,
    )


def some_allocations(number: int, scope: str = "pid:1009") -> AllocationsView:
    return AllocationsView(
        number=number,
        scope=scope,
        library="libjemalloc",
        state="on",
        since_us=START_US,
        budget=100_003,
        processes=(HeldView(1009, 1_048_583, 997, 2_097_169, 1999, 1002, "over\x1b budget"),),
        rate=101.5,
        cost=float("nan"),
        lost=3,
    )


class FakeAllocations:
    """Implements :class:`osdetectord.core.Allocations`: number 3 and what is added."""

    def __init__(self, asked: list[tuple[object, ...]]) -> None:
        self.all = {3: some_allocations(3)}
        self._asked = asked

    def views(self) -> Sequence[AllocationsView]:
        return list(self.all.values())

    def get(self, number: int) -> AllocationsView:
        try:
            return self.all[number]
        except KeyError:
            raise NoSuchTarget(f"no allocations {number}") from None

    async def price(self, asked_by: Caller) -> PriceView:
        self._asked.append(("price", asked_by))
        return PriceView(1.5e-6, 7e-7, 1.3e-7)

    async def add(self, options: Mapping[str, object], asked_by: Caller) -> int:
        self._asked.append(("add_allocations", dict(options), asked_by))
        number = max(self.all) + 1
        self.all[number] = some_allocations(number)
        return number

    async def remove(self, number: int, asked_by: Caller) -> None:
        self.get(number)
        self._asked.append(("remove_allocations", number, asked_by))
        del self.all[number]

    async def top(self, number: int, count: int) -> Sequence[StackView]:
        self._asked.append(("top", number, count))
        return [StackView(1009, 101_909, 101, ("take\x1b_much+0x19 (leaking)", "main+0x7 (leaking)"))]


class FakeInstruments:
    """Implements :class:`osdetectord.core.Instruments`: probe 1, trace 2 and what is added."""

    def __init__(self, asked: list[tuple[object, ...]]) -> None:
        self.all: dict[int, ProbeView | TraceView] = {1: a_probe(1), 2: a_trace(2)}
        self._asked = asked

    def views(self) -> Sequence[ProbeView | TraceView]:
        return list(self.all.values())

    def probe(self, number: int) -> ProbeView:
        view = self.all.get(number)
        if not isinstance(view, ProbeView):
            raise NoSuchTarget(f"no probe {number}")
        return view

    def trace(self, number: int) -> TraceView:
        view = self.all.get(number)
        if not isinstance(view, TraceView):
            raise NoSuchTarget(f"no trace {number}")
        return view

    async def add_probe(self, location: str, options: Mapping[str, object], asked_by: Caller) -> int:
        self._asked.append(("add_probe", location, dict(options), asked_by))
        number = max(self.all) + 1
        self.all[number] = a_probe(number, location)
        return number

    async def add_trace(self, signature: str, options: Mapping[str, object], asked_by: Caller) -> int:
        self._asked.append(("add_trace", signature, dict(options), asked_by))
        number = max(self.all) + 1
        self.all[number] = a_trace(number, signature)
        return number

    async def remove(self, number: int, asked_by: Caller) -> None:
        self._asked.append(("remove", number, asked_by))
        del self.all[number]

    def follow(self, number: int, backlog: int) -> int:
        self._asked.append(("follow", number, backlog))
        return os.open("/dev/null", os.O_RDONLY)


class FakeInside:
    """Implements :class:`osdetectord.core.Inside`."""

    def __init__(self, asked: list[tuple[object, ...]]) -> None:
        self._asked = asked

    async def latency(self, target: int, kind: str) -> Mapping[str, LatencyView]:
        self._asked.append(("latency", target, kind))
        if kind != "block":
            raise InvalidArgument(f"no latency {kind}")
        return {"read": LatencyView((7, 0, 11), 3e-6, 5e-6, 8.192e-6), "write": LatencyView((0, 0, 0), *[NAN] * 3)}

    async def syscalls(self, target: int) -> Sequence[SyscallView]:
        return [SyscallView(3, "close", 997, 499, 0.5, 0.25, {"EBADF": 499})]

    async def threads(self, target: int, seconds: float, limit: int) -> Sequence[ThreadView]:
        self._asked.append(("threads", target, seconds, limit))
        return [ThreadView(1009, 1013, "io\x1b[31m\udcff", "S", 0.5, 7.25, 101, 103)]


class FakeCore:
    """Implements :class:`osdetectord.core.Core`."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.target_views = {1: a_target(1)}
        self.anomaly_views = {number: an_anomaly(number) for number in range(1, 4)}
        self.instruments = FakeInstruments(self.asked)
        self.allocations = FakeAllocations(self.asked)
        self.inside = FakeInside(self.asked)
        self.fault: Exception | None = None

    def manager(self) -> ManagerView:
        return ManagerView(
            version="0.1.0",
            collectors=(HookView("cpu", "raw_tp sched_switch", 0, ""),),
            detectors=(DetectorView("level", "on", ""),),
            lost={"events": 7},
            self_cost={"cpu_percent": 0.5},
            worker="connected",
        )

    def targets(self) -> Sequence[TargetView]:
        return list(self.target_views.values())

    def target(self, number: int) -> TargetView:
        try:
            return self.target_views[number]
        except KeyError:
            raise NoSuchTarget(f"no target {number}") from None

    def anomaly(self, number: int) -> AnomalyView:
        try:
            return self.anomaly_views[number]
        except KeyError:
            raise NoSuchTarget(f"no anomaly {number}") from None

    async def watch(self, spec: str, options: Mapping[str, object], asked_by: Caller) -> int:
        self.asked.append(("watch", spec, dict(options), asked_by))
        if self.fault:
            raise self.fault
        if spec == str(NO_SUCH_PID):
            raise NoSuchProcess(f"no process {NO_SUCH_PID}")
        if not spec[:1].isdigit():
            raise InvalidArgument(f"not a target: {spec}")
        number = max(self.target_views, default=0) + 1
        self.target_views[number] = a_target(number, f"pid:{spec}")
        return number

    async def unwatch(self, target: int, asked_by: Caller) -> None:
        self.target(target)
        del self.target_views[target]

    def list_anomalies(
        self, since_us: int, until_us: int, target: int | None, only_open: bool, limit: int
    ) -> Sequence[AnomalyView]:
        self.asked.append(("list_anomalies", since_us, until_us, target, only_open, limit))
        return sorted(self.anomaly_views.values(), key=lambda view: -view.number)[:limit]

    async def series(
        self, target: int, metrics: Sequence[str], since_us: int, max_points: int
    ) -> Mapping[str, tuple[Sequence[int], Sequence[float]]]:
        self.target(target)
        return {metric: ([START_US, START_US + 1], [0.5, float("nan")]) for metric in metrics}

    async def evidence(self, anomaly: int) -> bytes:
        self.anomaly(anomaly)
        return b'{"anomaly": %d}' % anomaly

    async def mute(self, target: int, seconds: int, asked_by: Caller) -> None:
        self.asked.append(("mute", target, seconds, asked_by))
        self.target(target)

    async def feedback(self, anomaly: int, useful: bool, asked_by: Caller) -> None:
        self.anomaly_views[anomaly] = replace(self.anomaly(anomaly), useful="yes" if useful else "no")

    async def forget_feedback(self, anomaly: int, asked_by: Caller) -> None:
        self.anomaly_views[anomaly] = replace(self.anomaly(anomaly), useful="")

    async def reload(self, asked_by: Caller) -> None:
        self.asked.append(("reload", asked_by))
