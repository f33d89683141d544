"""Parts of processes: what was measured between two ticks, and how it comes to the detector and back."""

from __future__ import annotations

import math

import numpy as np
import pytest

from osdetectord.anomaly import Blame, Episode, EpisodeKind, Phase
from osdetectord.collectors import uprobe
from osdetectord.measured import ALLOCATIONS, FUNCTIONS, GROUPS, CallSums, HeldSamples, Measured
from osdetectord.parts import FIRST_SERIES, Parts
from osdetectord.probing.probes import ProbeTotal
from osdetectord.process import Process
from osdetectord.sample import Frame
from osdetectord.target import parse_spec
from osdetectord.verdict import Verdict
from osdetectord.watching import Member, Target, Watching

FRAME = Frame(17, 1.0, np.zeros(0, np.uint64), (), np.zeros((0, 0)))


def total(number: int, pid: int, durations_ns: list[int], interval_s: float = 0.25) -> ProbeTotal:
    slots = np.searchsorted(uprobe.BOUNDS, durations_ns, side="right") - 1
    bucket = np.bincount(slots, minlength=uprobe.BUCKETS).astype(np.uint64)
    count = len(durations_ns)
    return ProbeTotal(number, pid, count, count, interval_s, sum(durations_ns), 7 * count, bucket, max(durations_ns))


def test_calls_of_several_looks_are_added_up_and_told_once() -> None:
    sums = CallSums()
    places = {3: [11, 13]}
    # the look that first sees a probe does not know since when
    sums.heard([total(3, 11, [1_000_000] * 997, interval_s=3600.0)])
    assert [one.values for one in sums.take({3: ":f"}, places)] == [None, None]
    for _ in range(4):
        sums.heard([total(3, 11, [1_000_000] * 101 + [64_000_000])])
    found, other = sums.take({3: ":f"}, places)

    assert (found.group, found.number, found.pid, found.label) == (FUNCTIONS, 3, 11, ":f")
    calls, duration, on_cpu, median, tail = found.values
    assert calls == 4 * 102
    assert duration == pytest.approx(4 * (101 + 64) * 1e-3)
    assert on_cpu == pytest.approx(4 * 102 * 7e-9)
    assert median == pytest.approx(1e-3, rel=0.25)
    assert tail == pytest.approx(1e-3, rel=0.25)
    assert (other.pid, other.values) == (13, None)
    assert [one.values for one in sums.take({3: ":f"}, places)] == [None, None]


def test_a_probe_of_every_process_is_told_wherever_it_was_called() -> None:
    sums = CallSums()
    for _ in range(2):
        sums.heard([total(3, 11, [1000]), total(3, 13, [1000]), total(5, 17, [1000])])

    assert [(one.pid, one.values is not None) for one in sums.take({3: "libc:f"}, {3: [0]})] == [(11, True), (13, True)]


def test_what_is_held_is_a_level_and_what_is_called_a_rate() -> None:
    samples = HeldSamples()
    first = samples.take(2, 11, 1, 10**9, (1009, 13, 100))
    again = samples.take(2, 11, 1, 10**9, (1009, 13, 100))
    later = samples.take(2, 11, 1, 3 * 10**9, (2018, 26, 302))
    anew = samples.take(2, 11, 2, 4 * 10**9, (7, 1, 303))

    assert (first.group, first.values[:2], math.isnan(first.values[2])) == (ALLOCATIONS, (1009.0, 13.0), True)
    assert again.values is None
    assert later.values == (2018.0, 26.0, 101.0)
    assert (anew.values[:2], math.isnan(anew.values[2])) == ((7.0, 1.0), True)


class Detector:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.series: dict[int, tuple[str, str]] = {}
        self.frames: list[tuple[str, Frame]] = []

    def add(self, series: int, program: str, group: str = "") -> None:
        self.series[series] = (program, group)

    def remove(self, series: int) -> None:
        del self.series[series]

    def send(self, frame: Frame, group: str = "") -> None:
        self.frames.append((group, frame))


class Place:
    """Parts of two watched processes, and who hears of them."""

    def __init__(self) -> None:
        self.detector, self.units, self.ended, self.named = Detector(), {"cpu.on_cpu": "s/s"}, [], []
        self.parts = Parts(
            self.detector, self.units, lambda series, why: self.ended.append(series), lambda: self.named.append(1)
        )
        self.members = {n: Member(n, Process(n + 10, 1), "redis", "program", 0.0) for n in (1, 2)}

    def take(self, *measured: Measured, now_us: int = 5) -> None:
        self.parts.take(FRAME, now_us, measured, self.members)


def function(pid: int, p99_s: float, label: str = ":f", number: int = 3) -> Measured:
    return Measured(FUNCTIONS, number, pid, label, (100.0, 0.5, 0.25, 1e-3, p99_s))


def held(pid: int, size: float) -> Measured:
    return Measured(ALLOCATIONS, 1, pid, "", (size, 13.0, 7.0))


def verdict(series: int, alarm: bool = True, *episodes: Episode) -> Verdict:
    one = np.ones(1)
    wide = np.ones((1, 5))
    return Verdict(np.array([series], np.uint64), 4 * one, one, one, np.array([alarm]), wide, 2 * wide, episodes)


def test_each_part_is_a_series_of_its_own_with_its_own_program() -> None:
    place = Place()
    place.take(function(11, 2e-3), held(11, 1009.0), function(12, 3e-3), function(99, 1.0))
    first = FIRST_SERIES

    assert place.detector.series == {
        first: ("functions :f program", FUNCTIONS),
        first + 1: ("allocations  program", ALLOCATIONS),
        first + 2: ("functions :f program", FUNCTIONS),
    }
    (group, frame), (other, held_frame) = place.detector.frames
    assert (group, frame.series.tolist(), frame.metrics) == (FUNCTIONS, [first, first + 2], GROUPS[FUNCTIONS])
    assert (frame.time_ns, frame.values[:, 4].tolist()) == (17, [2e-3, 3e-3])
    assert (other, held_frame.values.tolist()) == (ALLOCATIONS, [[1009.0, 13.0, 7.0]])
    assert place.units["function.p99[:f]"] == "s"
    assert place.units["allocations.bytes"] == "bytes"


def test_a_part_that_nobody_looked_at_stays_and_one_that_is_gone_ends() -> None:
    place = Place()
    place.take(function(11, 2e-3), held(11, 1009.0))
    place.take(Measured(FUNCTIONS, 3, 11, ":f", None), Measured(ALLOCATIONS, 1, 11, "", None))
    assert (len(place.detector.series), len(place.detector.frames)) == (2, 2)
    place.take(function(11, 2e-3))
    assert list(place.detector.series) == [FIRST_SERIES]
    assert place.ended == [FIRST_SERIES + 1]
    del place.members[1]
    place.take(function(11, 2e-3))
    assert place.detector.series == {}
    # a number is never given twice
    place.take(function(12, 2e-3))
    assert list(place.detector.series) == [FIRST_SERIES + 2]


def test_another_program_in_the_same_process_is_another_series() -> None:
    place = Place()
    place.take(function(11, 2e-3))
    place.members[1].program = "another"
    place.take(function(11, 2e-3))

    assert place.detector.series == {FIRST_SERIES + 1: ("functions :f another", FUNCTIONS)}


def test_an_episode_of_a_part_is_its_process_s_and_names_the_function() -> None:
    place = Place()
    place.take(function(11, 2e-3))
    blame = Blame("function.p99", 0.75, 1e-2, 1e-3, 2e-3, 3)
    episode = Episode(2, FIRST_SERIES, Phase.OPENED, EpisodeKind.ANOMALY, 5, 7, 4.0, 1e-6, ("memory",), (blame,), 0)
    place.parts.heard(verdict(FIRST_SERIES, True, episode))
    member, told = place.parts.whose(episode)

    assert member is place.members[1]
    assert told.blames[0].metric == "function.p99[:f]"
    assert (member.anomalous, member.alarm, member.loudest) == (True, False, 4.0)
    place.parts.heard(verdict(FIRST_SERIES, alarm=False))
    assert not member.anomalous
    assert place.parts.whose(Episode(2, 7, Phase.OPENED, EpisodeKind.ANOMALY, 5, 7, 4.0, 1e-6, (), (), 0)) is None


def test_evidence_has_what_the_parts_did_at_each_instant() -> None:
    place = Place()
    for now_us in (5, 6, 7):
        place.take(function(11, now_us * 1e-3), now_us=now_us)
    place.take(Measured(FUNCTIONS, 3, 11, ":f", None), now_us=8)
    place.parts.heard(verdict(FIRST_SERIES))
    found = place.parts.evidence(place.members[1], [4, 6, 7, 8])

    assert set(found) == {f"{metric.name}[:f]" for metric in GROUPS[FUNCTIONS]}
    p99 = found["function.p99[:f]"]
    assert (p99["unit"], p99["expected"]) == ("s", [1.0, 2.0])
    assert p99["values"] == [None, pytest.approx(6e-3), pytest.approx(7e-3), None]


def test_a_target_has_the_sum_of_its_processes_and_the_slowest_quantile() -> None:
    place = Place()
    place.take(function(11, 2e-3), function(12, 3e-3), held(11, 1009.0), held(12, 77.0))
    watching = Watching(None, None, None, ("cpu.on_cpu",), 4)  # type: ignore[arg-type]
    watching.members = place.members
    target = Target(1, parse_spec("exe:/bin/true"), 0, True, True, members={1, 2})
    found = watching.of_parts(target)

    assert (found["function.calls[:f]"], found["function.p99[:f]"]) == (200.0, 3e-3)
    assert found["allocations.bytes"] == 1086.0
    assert list(found) == sorted(found)
