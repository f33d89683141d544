"""Probes, traces and allocations of real programs: what is counted is what they are known to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from osdetectord.bpf.kernel import Kernel, Sizes
from osdetectord.collectors import uprobe
from osdetectord.collectors.syscall_names import name_of
from osdetectord.errors import InvalidArgument, NoSuchProcess, NoSuchSymbol, NoSuchTarget, Unsupported
from osdetectord.probing.allocations import Allocations
from osdetectord.probing.probes import DEFAULT_BUDGET, Probes, ProbeTick
from osdetectord.process import Process, ProcessInfo
from tests.bpf.obedient import Probed

HERE = Path(__file__).parent
CALLS = 997
FEW = 53

BUILDS = {
    "pie": ("gcc", "probed.c", "-pthread"),
    "fixed": ("gcc", "probed.c", "-pthread", "-no-pie"),
    "static": ("gcc", "probed.c", "-pthread", "-static"),
    "frames": ("gcc", "probed.c", "-pthread", "-fno-omit-frame-pointer"),
    "cpp": ("g++", "probed.cpp"),
    "library": ("gcc", "probed_library.c", "-shared", "-fPIC"),
}


Run = Callable[..., Probed]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("probed")
    built = {}
    for name, (compiler, source, *options) in BUILDS.items():
        built[name] = directory / ("liblate.so.1" if name == "library" else name)
        subprocess.run([compiler, "-O2", "-o", built[name], HERE / source, *options], check=True)
    built["stripped"] = directory / "stripped"
    subprocess.run(["strip", "-o", built["stripped"], built["pie"]], check=True)
    return built


@pytest.fixture(scope="module", params=["multi", "perf"])
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """Each way of attaching, on its own."""
    kernel = Kernel(Sizes.of(64), uprobe_ways=(request.param,))
    assert kernel.uprobes.way == request.param, kernel.uprobes.why
    yield kernel
    kernel.close()


@pytest.fixture
def probes(kernel: Kernel) -> Iterator[Probes]:
    probes = Probes(kernel, time.monotonic_ns())
    yield probes
    probes.close()
    # what is detached is forgotten at the tick after
    tick(probes)
    left = {name: len(kernel.uprobes.maps[name].read()[0]) for name in ("probe_rules", "probe_sums")}
    assert left == {"probe_rules": 0, "probe_sums": 0}


@pytest.fixture
def allocations(kernel: Kernel) -> Iterator[Allocations]:
    allocations = Allocations(kernel)
    yield allocations
    allocations.close()
    tables = ("allocations", "allocation_sums", "allocation_stack_sums")
    assert {name: len(kernel.uprobes.maps[name].read()[0]) for name in tables} == dict.fromkeys(tables, 0)


@pytest.fixture
def run(programs: dict[str, Path]) -> Iterator[Run]:
    running: list[Probed] = []

    def start(*arguments: str, build: str = "pie", path: Path | None = None, before: tuple[str, ...] = ()) -> Probed:
        running.append(Probed(path or programs[build], *before, *arguments))
        return running[-1]

    yield start
    for process in running:
        process.end()


def tick(probes: Probes, **found: list[ProcessInfo] | list[Process]) -> ProbeTick:
    return probes.tick(time.monotonic_ns(), **found)  # type: ignore[arg-type]


def info(pid: int, parent: int = 0) -> ProcessInfo:
    return ProcessInfo(Process(pid, 1), parent, "probed", "", 0)


def texts(ticked: ProbeTick) -> list[str]:
    return [line.text for line in ticked.lines]


def address_of(program: Path, symbol: str) -> int:
    for line in subprocess.check_output(["nm", program], text=True).splitlines():
        if line.split()[2:] == [symbol]:
            return int(line.split()[0], 16)
    raise AssertionError(symbol)


# ---- probes


@pytest.mark.parametrize("build", ["pie", "fixed", "static"])
def test_every_call_is_recorded_with_its_result(probes: Probes, run: Run, build: str) -> None:
    process = run("search", str(CALLS), build=build)
    number = probes.add_probe(":search", pids=[process.pid])
    process.work()
    found = tick(probes)

    assert found.calls["result"].astype(np.int32).tolist() == [2 * n - 1 for n in range(CALLS)]
    assert (found.calls["number"] == number).all()
    assert (found.calls["pid"] == process.pid).all()
    assert (found.calls["tid"] == process.pid).all()
    assert (found.calls["entered_ns"] < found.calls["returned_ns"]).all()
    (total,) = found.totals
    assert (total.entries, total.calls) == (CALLS, CALLS)
    assert total.total_ns == (found.calls["returned_ns"] - found.calls["entered_ns"]).sum()


def test_a_stripped_program_is_probed_by_address(probes: Probes, run: Run, programs: dict[str, Path]) -> None:
    process = run("search", str(CALLS), build="stripped")
    with pytest.raises(NoSuchSymbol, match="0x"):
        probes.add_probe(":search", pids=[process.pid])
    probes.add_probe(f":{address_of(programs['pie'], 'search'):#x}", pids=[process.pid])
    process.work()

    assert tick(probes).totals[0].calls == CALLS


def test_a_library_function_is_probed_in_one_process_only(probes: Probes, run: Run) -> None:
    process, bystander = run("doze", "10"), run("doze", "10")
    probes.add_probe("libc:usleep", pids=[process.pid])
    bystander.work()
    process.work()
    (total,) = tick(probes).totals

    assert (total.pid, total.calls) == (process.pid, 17)


def test_all_processes_of_a_file_are_probed_where_asked(probes: Probes, run: Run, programs: dict[str, Path]) -> None:
    first = run("search", "101")
    probes.add_probe(f"{programs['pie']}:search", pids=[0])
    later = run("search", "211")
    first.work()
    later.work()
    counted = {total.pid: total.calls for total in tick(probes).totals}

    assert counted == {first.pid: 101, later.pid: 211}


def test_cpp_functions_are_found_by_their_names(probes: Probes, run: Run) -> None:
    process = run(build="cpp")
    with pytest.raises(InvalidArgument, match=r"add\(double\).*add\(int\)"):
        probes.add_probe(":shop::Till::add", pids=[process.pid])
    with pytest.raises(NoSuchSymbol, match="there is shop::Till::add"):
        probes.add_probe(":shop::Till::ad", pids=[process.pid])
    whole = probes.add_probe(":shop::Till::add(int)", pids=[process.pid])
    fraction = probes.add_probe(":_ZN4shop4Till3addEd", pids=[process.pid])
    made = probes.add_probe(":shop::Till::Till", pids=[process.pid])
    process.work()
    counted = {total.number: total.calls for total in tick(probes).totals}

    assert counted == {whole: 19, fraction: 23, made: 1}


def test_recursion_is_told_apart_by_depth(probes: Probes, run: Run) -> None:
    process = run("recurse", "29")
    probes.add_probe(":recurse", pids=[process.pid])
    process.work()
    calls = tick(probes).calls

    assert calls["depth"].tolist() == list(range(28, -1, -1))
    assert calls["result"].tolist() == list(range(1, 30))
    # an outer call lasts longer than the inner one
    assert (np.diff((calls["returned_ns"] - calls["entered_ns"]).astype(np.int64)) > 0).all()


def test_recursion_beyond_the_bound_is_counted_and_harmless(probes: Probes, run: Run) -> None:
    process = run("recurse", "43")
    probes.add_probe(":recurse", pids=[process.pid])
    before = probes.lost()["probe_too_deep"]
    process.work()
    process.work()
    found = tick(probes)

    assert found.calls["result"].tolist() == 2 * list(range(12, 44))
    assert found.totals[0].entries == 86
    assert probes.lost()["probe_too_deep"] - before == 22


def test_calls_left_by_longjmp_confuse_no_others(probes: Probes, run: Run) -> None:
    process = run("leap")
    leap = probes.add_probe(":leap", pids=[process.pid])
    recurse = probes.add_probe(":recurse", pids=[process.pid])
    process.work()
    process.work()
    found = tick(probes)

    counted = {total.number: (total.entries, total.calls) for total in found.totals}
    assert counted == {leap: (36, 0), recurse: (14, 14)}
    assert found.calls["depth"].tolist() == 2 * list(range(6, -1, -1))


def test_threads_are_told_apart(probes: Probes, run: Run) -> None:
    process = run("threads")
    probes.add_probe(":search", pids=[process.pid])
    process.work()
    calls = tick(probes).calls

    tids, counts = np.unique(calls["tid"], return_counts=True)
    assert counts.tolist() == [211] * 5
    results = [np.unique(calls["result"][calls["tid"] == tid]).tolist() for tid in tids]
    assert sorted(results) == [[1], [3], [5], [7], [9]]


def test_one_thread_only_where_asked(probes: Probes, run: Run) -> None:
    process = run("threads")
    probes.add_probe(":search", pids=[process.pid], tid=process.pid)
    every = probes.add_probe(":search", pids=[process.pid])
    process.work()

    assert {total.number: total.calls for total in tick(probes).totals if total.calls} == {every: 1055}
    with pytest.raises(NoSuchProcess, match="no thread 1 of process"):
        probes.add_probe(":search", pids=[process.pid], tid=1)


def test_the_thread_that_is_asked_for_is_probed(probes: Probes, run: Run) -> None:
    process = run("search", "101")
    probes.add_probe(":search", pids=[process.pid], tid=process.pid)
    process.work()

    assert tick(probes).totals[0].calls == 101


def test_time_on_a_cpu_is_by_the_scheduler(kernel: Kernel, probes: Probes, run: Run) -> None:
    busy, idle = run("burn", "30000"), run("doze", "30000")
    for process in (busy, idle):
        kernel.watch(process.pid, follow=True)
    burning = probes.add_probe(":burn", pids=[busy.pid])
    probes.add_probe(":doze", pids=[idle.pid])
    busy.work()
    idle.work()
    calls = tick(probes).calls
    burnt, dozed = calls[calls["number"] == burning], calls[calls["number"] != burning]

    assert len(burnt) == len(dozed) == 17
    assert calls["cpu_exact"].all()
    # the clock that the program looks at is charged a little earlier at each switch, of which a busy machine has many
    assert (burnt["cpu_ns"] > 10e6).all()
    assert 29e6 < np.median(burnt["cpu_ns"]) < 36e6
    assert (dozed["cpu_ns"] < dozed["returned_ns"] - dozed["entered_ns"] - 25e6).all()
    assert (dozed["voluntary"] >= 1).all()
    assert (calls["cpu_ns"] <= calls["returned_ns"] - calls["entered_ns"]).all()


def test_a_probe_is_no_system_call_of_the_program(kernel: Kernel, probes: Probes, run: Run) -> None:
    process = run("search", str(CALLS))
    serial = kernel.watch(process.pid, follow=False)
    probes.add_probe(":search", pids=[process.pid])
    process.work()
    assert sum(total.calls for total in tick(probes).totals) == CALLS
    process.work()
    made = {
        name_of(number)
        for keys, _ in kernel.snapshot().batches("syscalls")
        for number in keys["nr"][keys["serial"] == serial].tolist()
    }

    assert "write" in made
    assert not made & {"uprobe", "uretprobe"}


def test_quantiles_are_of_the_interval(probes: Probes, run: Run) -> None:
    process = run("doze", "5000")
    probes.add_probe(":doze", pids=[process.pid])
    process.work()
    first = tick(probes)
    durations = (first.calls["returned_ns"] - first.calls["entered_ns"]).astype(float)

    assert first.totals[0].p50_ns == pytest.approx(np.median(durations), rel=0.25)
    assert first.totals[0].p99_ns == pytest.approx(durations.max(), rel=0.25)
    assert first.totals[0].longest_ns == durations.max()
    (quiet,) = tick(probes).totals
    assert quiet.calls == 0
    assert np.isnan(quiet.p50_ns)


# ---- life


def test_removal_detaches(probes: Probes, run: Run) -> None:
    process = run("search", str(CALLS))
    number = probes.add_probe(":search", pids=[process.pid])
    process.work()
    probes.remove(number)
    process.work()
    tick(probes)

    assert probes.list() == ()
    with pytest.raises(NoSuchTarget, match=f"no probe or trace {number}"):
        probes.remove(number)
    # the breakpoint is gone from the program's memory
    again = probes.add_probe(":search", pids=[process.pid])
    process.work()
    assert {total.number: total.calls for total in tick(probes).totals} == {again: CALLS}


def test_children_are_probed_from_the_tick_that_tells_of_them(probes: Probes, run: Run) -> None:
    process = run("search", "101")
    number = probes.add_probe(":search", pids=[process.pid])
    alone = probes.add_probe(":search", pids=[process.pid], children=False)
    process.work()
    process.tell("f")
    child = int(process.answer())
    tick(probes, started=[info(child, process.pid)])
    process.tell("\nw")
    process.hears("done")
    found = tick(probes, exited=[Process(child, 1)])

    assert {(t.number, t.pid): t.calls for t in found.totals if t.calls} == {(number, child): 101}
    assert [len(view.places) for view in probes.list()] == [1, 1]
    assert probes.view(number).entries == 202
    assert probes.view(alone).entries == 101


def test_a_program_that_is_executed_again_is_probed_once(probes: Probes, run: Run, programs: dict[str, Path]) -> None:
    process = run("search", "101", str(programs["pie"]))
    probes.add_probe(":search", pids=[process.pid])
    process.work()
    process.tell("x")
    process.hears("ready")
    tick(probes, execed=[info(process.pid)])
    process.work()

    assert sum(total.calls for total in tick(probes).totals) == 101


def test_a_replaced_program_is_probed_at_its_execution(
    probes: Probes, run: Run, programs: dict[str, Path], tmp_path: Path
) -> None:
    program = tmp_path / "program"
    shutil.copy(programs["pie"], program)
    process = run("search", "101", str(program), path=program)
    number = probes.add_probe(":search", pids=[process.pid])
    process.work()
    shutil.copy(programs["fixed"], tmp_path / "new")
    (tmp_path / "new").rename(program)
    # still the old file
    process.work()
    process.tell("x")
    process.hears("ready")
    tick(probes, execed=[info(process.pid)])
    process.work()
    found = tick(probes)

    assert [total.calls for total in found.totals] == [101]
    assert probes.view(number).calls == 303
    assert probes.view(number).places[0].trouble == ""


def test_a_program_without_the_function_is_told_of_until_the_next(
    probes: Probes, run: Run, programs: dict[str, Path]
) -> None:
    process = run("search", "101", str(programs["cpp"]))
    number = probes.add_probe(":search", pids=[process.pid])
    process.tell("x")
    process.hears("ready")
    tick(probes, execed=[info(process.pid)])

    (place,) = probes.view(number).places
    assert "has no function search" in place.trouble
    assert probes.view(number).state == "waiting"


def test_a_library_that_is_loaded_later_is_probed_then(probes: Probes, run: Run, programs: dict[str, Path]) -> None:
    process = run("library", "101", str(programs["library"]))
    executed = run("library", "101", str(programs["library"]))
    with pytest.raises(NoSuchSymbol, match="maps no library late"):
        probes.add_probe("late:twice", pids=[process.pid])
    process.work()
    number = probes.add_probe("late:twice", pids=[process.pid, executed.pid])
    executed.work()
    begun = time.monotonic_ns()
    probes.tick(begun + 1_000_000_000)
    assert [view.trouble for view in probes.view(number).places] == ["", ""]
    executed.work()

    assert {t.pid: t.calls for t in probes.tick(begun + 2_000_000_000).totals if t.calls} == {executed.pid: 101}


def test_a_process_can_join_later(probes: Probes, run: Run) -> None:
    first, second = run("search", "101"), run("search", "211")
    number = probes.add_probe(":search", pids=[first.pid])
    probes.add_process(number, second.pid)
    probes.add_process(number, second.pid)
    first.work()
    second.work()

    assert {total.pid: total.calls for total in tick(probes).totals} == {first.pid: 101, second.pid: 211}
    with pytest.raises(NoSuchTarget):
        probes.add_process(number + 1, second.pid)


def test_an_end_that_nobody_tells_of_is_noticed(probes: Probes, run: Run) -> None:
    process = run("search", "101")
    number = probes.add_probe(":search", pids=[process.pid])
    process.end()
    probes.tick(time.monotonic_ns() + 11_000_000_000)

    assert probes.view(number).places == ()


def test_too_many_calls_detach_and_are_told_once(probes: Probes, run: Run) -> None:
    process = run("search", str(CALLS))
    greedy = probes.add_probe(":search", pids=[process.pid], budget=FEW)
    modest = probes.add_probe(":search", pids=[process.pid], budget=DEFAULT_BUDGET)
    process.work()
    found = tick(probes)

    assert [(event.number, event.budget) for event in found.detached] == [(greedy, FEW)]
    assert f"more than {FEW}: detached" in str(found.detached[0])
    assert [view.state for view in probes.list()] == ["over budget", "on"]
    process.work()
    found = tick(probes)
    assert found.detached == ()
    assert {total.number: total.calls for total in found.totals} == {modest: CALLS}


def test_the_end_of_a_process_leaves_nothing(kernel: Kernel, probes: Probes, run: Run) -> None:
    process = run("search", "101")
    number = probes.add_probe(":search", pids=[process.pid])
    process.work()
    process.end()
    found = tick(probes, exited=[Process(process.pid, 1)])

    assert [total.calls for total in found.totals] == [101]
    assert probes.view(number).places == ()
    assert len(kernel.uprobes.maps["probe_rules"].read()[0]) == 0


def test_a_full_ring_is_counted(probes: Probes, run: Run) -> None:
    process = run("search", "30011")
    probes.add_probe(":search", pids=[process.pid], budget=1 << 30)
    before = probes.lost()["probe_calls"]
    process.work()
    found = tick(probes)

    lost = probes.lost()["probe_calls"] - before
    assert lost > 0
    assert len(found.calls) + lost == 30011
    assert found.totals[0].calls == 30011


# ---- locations


def test_what_cannot_be_probed_is_refused_with_the_reason(probes: Probes, run: Run) -> None:
    process = run("search", "1")
    for location, error, message in (
        (":serch", NoSuchSymbol, "has no function serch; there is .*search"),
        ("libc:memcpy", Unsupported, "IFUNC"),
        ("libnone:f", NoSuchSymbol, "maps no library libnone; it maps .*libc.so.6"),
        ("/no/such:f", NoSuchSymbol, "no file /no/such of process"),
        ("/etc/passwd:f", InvalidArgument, "/etc/passwd is not an ELF file"),
        (":0x1", InvalidArgument, "has no code at address 0x1"),
    ):
        with pytest.raises(error, match=message):
            probes.add_probe(location, pids=[process.pid])
    with pytest.raises(NoSuchProcess, match="no process 4194303"):
        probes.add_probe(":search", pids=[4194303])
    with pytest.raises(InvalidArgument, match="budget 0"):
        probes.add_probe(":search", pids=[process.pid], budget=0)
    with pytest.raises(InvalidArgument, match="without a process it must be an absolute path"):
        probes.add_probe("libc:malloc", pids=[0])
    assert probes.list() == ()


def test_some_of_several_processes_may_lack_the_function(probes: Probes, run: Run) -> None:
    process, other = run("search", "101"), run(build="cpp")
    number = probes.add_probe(":search", pids=[other.pid, process.pid])
    process.work()

    troubles = {view.pid: view.trouble for view in probes.view(number).places}
    assert troubles[process.pid] == ""
    assert "has no function search" in troubles[other.pid]
    assert tick(probes).totals[0].calls == 101


def test_the_same_path_in_two_roots_is_two_files(probes: Probes, programs: dict[str, Path], tmp_path: Path) -> None:
    """A process whose root is another sees its own file under the path; an absolute link there stays inside."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(programs["static"], root / "bin" / "real")
    (root / "bin" / "probed").symlink_to("/bin/real")
    process = subprocess.Popen(
        ["/usr/sbin/chroot", root, "/bin/probed", "search", "101"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        number = probes.add_probe("/bin/probed:search", pids=[process.pid])
        process.stdin.write(b"w")
        assert process.stdout.readline() == b"done\n"
        assert tick(probes).totals[0].calls == 101
        assert probes.view(number).places[0].path == "/bin/probed"
    finally:
        process.kill()
        process.communicate()


def test_the_same_library_in_two_roots_is_two_files(
    probes: Probes, run: Run, programs: dict[str, Path], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    for line in subprocess.check_output(["ldd", programs["pie"]], text=True).splitlines():
        for word in line.split():
            if word.startswith("/"):
                (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, root / word[1:])
    shutil.copy(programs["pie"], root / "probed")
    inside = run("/probed", "doze", "10", path=Path("/usr/sbin/chroot"), before=(str(root),))
    outside = run("doze", "10")
    number = probes.add_probe("libc:usleep", pids=[inside.pid])
    outside.work()
    inside.work()

    assert {total.pid: total.calls for total in tick(probes).totals} == {inside.pid: 17}
    probes.add_process(number, outside.pid)
    outside.work()
    assert {total.pid: total.calls for total in tick(probes).totals if total.calls} == {outside.pid: 17}
    paths = {view.path.rpartition("/")[2] for view in probes.view(number).places}
    assert paths == {"libc.so.6"}


def test_the_same_path_in_two_mount_namespaces_is_two_files(
    probes: Probes, run: Run, programs: dict[str, Path], tmp_path: Path
) -> None:
    library = Path("/lib/x86_64-linux-gnu/libc.so.6").resolve()
    shutil.copy(library, tmp_path / "libc")
    script = f"mount --bind {tmp_path / 'libc'} {library} && exec {programs['pie']} doze 10"
    inside = run("-m", "sh", "-c", script, path=Path("/usr/bin/unshare"))
    outside = run("doze", "10")
    by_name = probes.add_probe("libc:usleep", pids=[inside.pid])
    by_path = probes.add_probe(f"{library}:usleep", pids=[outside.pid])
    inside.work()
    outside.work()
    outside.work()

    counted = {(total.number, total.pid): total.calls for total in tick(probes).totals}
    assert counted == {(by_name, inside.pid): 17, (by_path, outside.pid): 34}
    assert probes.view(by_name).places[0].path == str(library)


def test_returns_of_go_programs_are_refused_and_entries_are_not(
    probes: Probes, programs: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    program = tmp_path / "go"
    subprocess.run(["objcopy", "--add-section", ".gopclntab=/etc/hostname", programs["pie"], program], check=True)
    process = run("search", "5", "word", path=program)
    with pytest.raises(Unsupported, match="Go compiler"):
        probes.add_probe(":search", pids=[process.pid])
    with pytest.raises(Unsupported, match="Go compiler"):
        probes.add_trace("search(n: int) -> int", pids=[process.pid])
    probes.add_trace("search(n: int, name: str)", pids=[process.pid])
    process.work()

    assert texts(tick(probes)) == [f'search(n={n}, name="word")' for n in range(5)]


# ---- traces


def test_arguments_and_results_of_every_size(probes: Probes, run: Run) -> None:
    process = run("six")
    probes.add_trace("six(a: i8, b: u16, c: i32, d: u64, e: char, f: ptr) -> u64", pids=[process.pid])
    probes.add_trace(
        ":six",
        entry="'%hhd %hu %d %lu %c %p' % (arg1, arg2, arg3, arg4, arg5, arg6)",
        returned="'%lx' % (retval)",
        pids=[process.pid],
    )
    process.work()
    result = ((1 << 63) - 5 + 65535 - 70000 + ord("x")) & (2**64 - 1)

    assert sorted(texts(tick(probes))) == sorted(
        [
            f"six(a=-5, b=65535, c=-70000, d={1 << 63}, e='x', f=0xabcdef) = {result}",
            f"-5 65535 -70000 {1 << 63} x 0xabcdef",
            f"{result:x}",
        ]
    )


def test_strings_are_shown_on_one_line_whatever_they_hold(probes: Probes, run: Run) -> None:
    process = run("search", "1", 'a "b"\n\x1b[31m\u202eé' + "z" * 200)
    probes.add_trace("search(n: int, name: str) -> int", pids=[process.pid])
    probes.add_trace(":search", entry="'%d: %.5s' % (arg1, arg2)", pids=[process.pid])
    process.work()
    shown = '"a \\"b\\"\\n\\x1b[31m\\xe2\\x80\\xaeé' + "z" * (127 - 16) + '"...'

    assert texts(tick(probes)) == ['0: a \\"b\\"', f"search(n=0, name={shown}) = -1"]


def test_results_that_are_strings(probes: Probes, run: Run) -> None:
    process = run("greeting")
    probes.add_trace("greeting(n: int) -> str", pids=[process.pid])
    process.work()

    assert texts(tick(probes)) == ['greeting(n=1) = "odd\\n\\"one\\""', "greeting(n=2) = NULL"]


def test_a_string_that_is_not_in_memory_at_entry_is_read_at_return(probes: Probes, run: Run) -> None:
    process = run("absent")
    probes.add_trace(":search", entry="'%d %s' % (arg1, arg2)", pids=[process.pid])
    probes.add_trace("search(n: int, name: str) -> int", pids=[process.pid])
    process.work()

    assert texts(tick(probes)) == [
        line
        for n in (1000, 1001, 1002)
        for line in (f"{n} from a file", f'search(n={n}, name="from a file") = {2 * n - 1}')
    ]


def test_plain_text_is_printed_as_it_is(probes: Probes, run: Run) -> None:
    process = run("search", "3")
    number = probes.add_trace(":search", entry="in %d", returned="out", pids=[process.pid])
    process.work()
    found = tick(probes)

    assert texts(found) == ["in %d", "out"] * 3
    assert [line.returned for line in found.lines] == [False, True] * 3
    view = probes.view(number)
    assert (view.lines, view.entries) == (6, 3)  # type: ignore[union-attr]


# ---- allocations


def test_outstanding_bytes_are_exact_and_of_the_functions_that_took_them(allocations: Allocations, run: Run) -> None:
    process = run("leak", build="frames")
    number = allocations.add(process.pid)
    process.work()
    view = allocations.view(number)

    assert (view.bytes, view.count) == (101 * 1009 + 13 * 77, 114)
    much, little = allocations.top(number)
    assert (much.bytes, much.count) == (101 * 1009, 101)
    assert (little.bytes, little.count) == (13 * 77, 13)
    assert much.frames[0].startswith("take_much+")
    assert little.frames[0].startswith("take_little+")
    assert much.frames[1].startswith("main+")
    assert view.unknown_frees == 0
    # malloc, realloc, posix_memalign, aligned_alloc, reallocarray, malloc
    assert view.allocations == 499 * 6 + 114
    assert view.frees == 499 * 5


def test_a_statically_linked_allocator_is_watched(allocations: Allocations, run: Run) -> None:
    process = run("leak", build="static")
    number = allocations.add(process.pid, library="")
    process.work()

    assert allocations.view(number).bytes == 101 * 1009 + 13 * 77


def test_a_probe_tells_what_each_call_allocated(allocations: Allocations, probes: Probes, run: Run) -> None:
    process = run("leak", build="frames")
    allocations.add(process.pid)
    numbers = [probes.add_probe(f":{name}", pids=[process.pid]) for name in ("take_much", "take_little", "give_back")]
    process.work()
    process.work()
    calls = tick(probes).calls

    assert calls["number"].tolist() == 2 * numbers
    # before the first allocation there is nothing to compare with
    assert calls["allocated"].tolist() == 2 * [101 * 1009, 13 * 77, 0]
    assert calls["allocations"].tolist() == 2 * [101, 13, 0]


def test_an_execution_begins_anew(allocations: Allocations, run: Run, programs: dict[str, Path]) -> None:
    process = run("leak", "1", str(programs["pie"]))
    number = allocations.add(process.pid)
    process.work()
    process.tell("x")
    process.hears("ready")
    allocations.tick(time.monotonic_ns(), execed=[info(process.pid)])
    assert allocations.view(number).count == 0
    process.work()

    assert allocations.view(number).bytes == 101 * 1009 + 13 * 77


def test_a_busy_allocator_is_let_go(allocations: Allocations, run: Run) -> None:
    process = run("leak")
    number = allocations.add(process.pid, budget=101)
    allocations.tick(time.monotonic_ns())
    process.work()
    (event,) = allocations.tick(time.monotonic_ns())

    assert (event.number, event.budget) == (number, 101)
    assert allocations.view(number).state == "over budget"
    before = allocations.view(number)
    process.work()
    assert allocations.view(number) == before


def test_the_price_is_measured_and_said(allocations: Allocations) -> None:
    price = allocations.price()

    assert price.malloc_ns > 0
    assert price.free_ns > 0
    assert "each malloc takes" in str(price)


# ---- the edge


def mapped_rings() -> int:
    """Bytes of the kernel's rings that this process maps."""
    spans = [
        line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if "bpf-map" in line
    ]
    return sum(int(last, 16) - int(first, 16) for first, last in spans)


def test_rings_take_memory_only_while_something_is_attached(probes: Probes, kernel: Kernel, run: Run) -> None:
    before = mapped_rings()
    process = run("search", "101")
    for _ in range(2):
        number = probes.add_probe(":search", pids=[process.pid])
        assert mapped_rings() - before > sum(uprobe.PAGES.values()) * os.sysconf("SC_PAGESIZE")
        process.work()
        assert len(tick(probes).calls) == 101
        probes.remove(number)
        tick(probes)
        assert mapped_rings() == before
    with pytest.raises(NoSuchSymbol):
        probes.add_probe(":serch", pids=[process.pid])
    assert mapped_rings() == before


def test_the_probe_ends_with_its_descriptors(run: Run, programs: dict[str, Path]) -> None:
    kernel = Kernel(Sizes.of(64))
    probes = Probes(kernel, time.monotonic_ns())
    process = run("search", "101")
    probes.add_probe(":search", pids=[process.pid])
    place = address_of(programs["pie"], "search")
    code = programs["pie"].read_bytes()[place : place + 1]

    assert memory_of(process.pid, programs["pie"], place) == b"\xcc"
    for links in [held.links for probe in probes._probes.values() for held in probe.attached.values()]:
        for fd in links:
            os.close(fd)
    kernel.close()
    assert memory_of(process.pid, programs["pie"], place) == code
    process.work()


def memory_of(pid: int, program: Path, offset: int) -> bytes:
    """The byte that a process has at an offset of its program's code."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, mode, begin, *rest = line.split()
        if rest[-1] == str(program) and "x" in mode:
            first, last = (int(part, 16) for part in span.split("-"))
            at = first + offset - int(begin, 16)
            if first <= at < last:
                with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
                    memory.seek(at)
                    return memory.read(1)
    raise AssertionError(f"{program} is not in process {pid}")


def test_without_a_way_nothing_can_be_added() -> None:
    kernel = Kernel(Sizes.of(64), uprobe_ways=())
    try:
        assert kernel.uprobes.way == ""
        with pytest.raises(Unsupported, match="can't be probed here"):
            Probes(kernel, 0).add_probe(":main", pids=[os.getpid()])
        with pytest.raises(Unsupported, match="can't be watched here"):
            Allocations(kernel).add(os.getpid())
        assert len(Probes(kernel, 0).tick(1).calls) == 0
    finally:
        kernel.close()


IN_THE_SANDBOX = """
import sys, time
from osdetectord.bpf.kernel import Kernel, Sizes
from osdetectord.probing.allocations import Allocations
from osdetectord.probing.probes import Probes

kernel = Kernel(Sizes.of(64), uprobe_ways=sys.argv[1:2])
if not kernel.uprobes.way:
    sys.exit(kernel.uprobes.why)
pid = int(sys.argv[2])
probes, allocations = Probes(kernel, time.monotonic_ns()), Allocations(kernel)
probes.add_probe("libc:usleep", pids=[pid])
allocations.add(pid)
print("attached", flush=True)
sys.stdin.readline()
print(probes.tick(time.monotonic_ns()).totals[0].calls)
"""


def sandboxed(way: str, pid: int) -> subprocess.Popen[str]:
    """A daemon with the capabilities of the service and no others."""
    capabilities = "+bpf,+perfmon,+sys_ptrace,+dac_read_search"
    return subprocess.Popen(
        [
            *("setpriv", f"--bounding-set=-all,{capabilities}", "--inh-caps=-all", "--no-new-privs"),
            *("/usr/bin/python3", "-c", IN_THE_SANDBOX, way, str(pid)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=HERE.parents[1],
    )


def test_the_capabilities_of_the_service_are_enough_for_links(run: Run) -> None:
    process = run("doze", "10")
    daemon = sandboxed("multi", process.pid)
    assert daemon.stdout is not None
    assert daemon.stdout.readline() == "attached\n", daemon.communicate()
    process.work()
    told, trouble = daemon.communicate("\n")

    assert (told, trouble) == ("17\n", "")


def test_the_perf_way_says_what_it_lacks_in_the_service(run: Run) -> None:
    _, trouble = sandboxed("perf", run("doze", "10").pid).communicate()

    assert "CAP_SYS_ADMIN" in trouble
