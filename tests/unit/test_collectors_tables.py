"""What the tables mean: collectors read arrays, no kernel."""

from pathlib import Path

import numpy as np
import pytest

from osdetectord.collectors import layout
from osdetectord.collectors.cpu import CpuCollector
from osdetectord.collectors.registry import COLLECTORS, sources
from osdetectord.collectors.syscall_names import ARM64, CLASS_NAMES, CLASSES, X86_64, class_index, name_of
from osdetectord.collectors.syscalls import SyscallCollector

SECOND = 1_000_000_000


class Arrays:
    """Tables of a test."""

    now_ns = 100 * SECOND

    def __init__(self, **tables):
        self._tables = tables

    def read(self, name):
        table = layout.TABLES[name]
        return self._tables.get(name, (np.zeros(0, table.key), np.zeros(0, table.value)))

    def batches(self, name):
        keys, values = self.read(name)
        for index in range(0, len(keys), 2):
            yield keys[index : index + 2], values[index : index + 2]


def column(collector, name):
    return [metric.name for metric in collector.metrics].index(name)


def calls(*rows):
    keys = np.array([(serial, nr, 0) for serial, nr, *_ in rows], dtype=layout.CALL)
    return keys, np.array([tuple(row[2:]) for row in rows], dtype=layout.CALLS)


NUMBER = {name: number for number, name in enumerate(X86_64.split())}


@pytest.fixture
def syscalls(monkeypatch):
    monkeypatch.setattr("osdetectord.collectors.syscall_names.NAMES", tuple(X86_64.split()))
    return SyscallCollector()


def test_calls_are_summed_by_process_and_class(syscalls):
    tables = Arrays(
        syscalls=calls(
            (7, NUMBER["read"], 3, 1, 5 * SECOND, SECOND),
            (9, NUMBER["fsync"], 2, 0, SECOND, SECOND),
            (7, NUMBER["pread64"], 4, 0, SECOND, SECOND),
            (5, NUMBER["read"], 99, 99, SECOND, SECOND),
            (7, 100_000, 1, 1, 0, 0),
        )
    )
    out = syscalls.read(tables, np.array([7, 8, 9], dtype=np.uint64))

    assert out[:, column(syscalls, "syscalls.calls")].tolist() == [8, 0, 2]
    assert out[:, column(syscalls, "syscalls.errors")].tolist() == [2, 0, 0]
    assert out[:, column(syscalls, "syscalls.read_calls")].tolist() == [7, 0, 0]
    assert out[:, column(syscalls, "syscalls.read_time")].tolist() == [6, 0, 0]
    assert out[:, column(syscalls, "syscalls.sync_time")].tolist() == [0, 0, 1]
    assert out[:, column(syscalls, "syscalls.other_calls")].tolist() == [1, 0, 0]


def test_calls_under_way_count_up_to_now_but_for_those_that_never_return(syscalls):
    threads = np.zeros(5, dtype=layout.THREAD)
    threads["serial"] = [7, 7, 9, 9, 5]
    threads["nr"] = [NUMBER["fsync"], NUMBER["fsync"], NUMBER["futex"], NUMBER["exit_group"], NUMBER["futex"]]
    # since 98 s, not under way, since 60 s, since 1 s; it is 100 s
    threads["entered_ns"] = [98 * SECOND, 0, 60 * SECOND, SECOND, SECOND]
    tables = Arrays(
        syscalls=calls((7, NUMBER["fsync"], 1, 0, 5 * SECOND, SECOND)), threads=(np.arange(5, dtype="<u4"), threads)
    )
    out = syscalls.read(tables, np.array([7, 9], dtype=np.uint64))

    assert out[:, column(syscalls, "syscalls.sync_time")].tolist() == [7, 0]
    assert out[:, column(syscalls, "syscalls.futex_time")].tolist() == [0, 40]
    assert out[:, column(syscalls, "syscalls.process_time")].tolist() == [0, 0]
    assert out[:, column(syscalls, "syscalls.calls")].tolist() == [1, 0]


def test_processes_are_listed_by_call_most_time_first(syscalls):
    tables = Arrays(syscalls=calls((7, 0, 3, 1, 5, 3), (8, 0, 1, 1, 1, 1), (7, 1, 2, 0, 9, 8)))

    def listed(*serials):
        return [(t.name, t.count, t.errors, t.total_ns, t.longest_ns) for t in syscalls.totals(tables, serials)]

    assert listed(7) == [("write", 2, 0, 9, 8), ("read", 3, 1, 5, 3)]
    assert listed(8, 7) == [("write", 2, 0, 9, 8), ("read", 4, 2, 6, 3)]
    assert listed() == []


def test_errors_are_told_by_their_number_most_first(syscalls):
    rows = [(7, 0, 4, 3), (7, 0, 11, 5), (7, 1, 4, 1), (8, 0, 4, 7)]
    keys = np.array([row[:3] for row in rows], dtype=layout.FAILURE)
    failures = (keys, np.array([row[3:] for row in rows], dtype=layout.FAILED))
    tables = Arrays(syscalls=calls((7, 0, 20, 15, 5, 3), (8, 0, 9, 7, 1, 1)), failures=failures)

    assert [t.failures for t in syscalls.totals(tables, [7])] == [((11, 5), (4, 3))]
    assert [t.failures for t in syscalls.totals(tables, [7, 8])] == [((4, 10), (11, 5))]


def test_time_off_cpu_is_what_the_age_of_the_threads_leaves():
    collector = CpuCollector()
    serials = np.array([3, 4], dtype=np.uint64)
    processes = np.zeros(1, dtype=layout.PROCESS)
    # two threads, born at 40 s and at 70 s, one that lived from 10 s to 30 s
    processes["threads"] = 2
    processes["stamps_ns"] = (40 + 70 + 10 - 30) * SECOND
    totals = np.array([(7 * SECOND, 2 * SECOND, 11, 13)], dtype=layout.TOTALS)
    key = np.array([4], dtype=np.uint64)
    out = collector.read(Arrays(totals=(key, totals), processes=(key, processes)), serials)

    assert np.isnan(out[0]).all()
    assert out[1].tolist() == pytest.approx([7, 2, (60 + 30 + 20) - 7, 11, 13])


def test_every_class_names_calls_that_exist_and_none_twice():
    known = set(X86_64.split()) | set(ARM64.split())
    names = [name for names in CLASSES.values() for name in names.split()]

    assert not set(names) - known
    assert len(names) == len(set(names))
    assert set(class_index()) <= set(range(len(CLASS_NAMES)))


@pytest.mark.parametrize(
    ("table", "number", "name"),
    [
        (X86_64, 0, "read"),
        (X86_64, 110, "getppid"),
        (X86_64, 202, "futex"),
        (X86_64, 257, "openat"),
        (X86_64, 435, "clone3"),
        (X86_64, 462, "mseal"),
        (ARM64, 63, "read"),
        (ARM64, 98, "futex"),
        (ARM64, 173, "getppid"),
        (ARM64, 222, "mmap"),
        (ARM64, 435, "clone3"),
    ],
)
def test_numbers_are_those_of_the_abi(table, number, name):
    assert table.split()[number] == name


@pytest.mark.parametrize("number", [-1, 400, 100_000])
def test_an_unknown_number_is_named_by_itself(number):
    assert name_of(number) == f"syscall_{number}"


def test_metrics_are_named_once_and_explained():
    metrics = [metric for collector in COLLECTORS for metric in collector.metrics]

    assert len({metric.name for metric in metrics}) == len(metrics)
    assert all(metric.help and metric.unit for metric in metrics)


def test_every_program_named_by_a_hook_stands_in_its_collectors_source():
    for collector in COLLECTORS:
        text = next(path for path in sources() if path.name == collector.source).read_text()
        for hook in collector.hooks:
            for attachment in hook.attachments:
                assert f"int {attachment.program}(" in text


def test_sources_hold_no_template():
    for path in sources():
        assert isinstance(path, Path)
        assert "%s" not in path.read_text() and "{{" not in path.read_text()
